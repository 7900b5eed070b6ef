//! `kontor serve`: runs the server until Ctrl-C or SIGTERM.

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use kontor::app::{self, App};
use kontor::config::{self, Loaded};
use kontor::domain::masked_url::masked_url;
use kontor::store::{DatabaseUrl, OpenError};
use kontor::telemetry;
use kontor_lab::{stderr, stdout};

use tokio::signal::unix::{self, SignalKind};

use super::Error;
use super::sign_in::{self, StartLink};
use super::store_location::StorePlace;

/// How long a graceful stop may take.
const STOP_WITHIN: Duration = Duration::from_secs(10);
/// How long to wait for a data folder that another process is using.
const FOLDER_WITHIN: Duration = Duration::from_secs(2);
/// The pause between two attempts to open such a folder.
const FOLDER_EVERY: Duration = Duration::from_millis(50);

/// Serve the shop
#[derive(Clone, Debug, Default, clap::Args)]
#[command(after_help = "\
Settings come from the defaults, config.toml (or --config), the environment
(KONTOR__HTTP__LISTEN=0.0.0.0:80) and these flags; later sources override earlier ones.
`kontor config` shows all settings.

Ctrl-C or SIGTERM stops the server: requests in progress finish, and nothing acknowledged is lost.
So does SIGHUP if the logs go to a terminal, because it was closed; otherwise SIGHUP reads the
settings again and changes log.filter.

Examples:
  kontor serve
  kontor serve --data /srv/shop --listen 0.0.0.0:8080
  kontor serve --store postgres://kontor@db/kontor
  kontor sandbox-psp & kontor serve --sandbox-psp http://127.0.0.1:8081")]
pub struct Args {
    /// Settings.
    #[command(flatten)]
    pub settings: SettingArgs,
}

/// The configuration file, and the settings that flags override.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct SettingArgs {
    /// Read this file instead of ./config.toml
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The data folder
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// The PostgreSQL database of the store, instead of a data folder
    #[arg(long, value_name = "URL")]
    pub store: Option<DatabaseUrl>,
    /// The address to listen on
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<std::net::SocketAddr>,
    /// The URL of the sandbox payment provider
    #[arg(long, value_name = "URL")]
    pub sandbox_psp: Option<String>,
    /// development or production; production refuses the sandbox payment provider
    #[arg(long, value_name = "PROFILE")]
    pub profile: Option<String>,
}

impl SettingArgs {
    /// Reads the configuration.
    ///
    /// # Errors
    /// [`config::Error`].
    pub fn load(&self) -> Result<Loaded, config::Error> {
        let mut flags = Vec::new();
        if let Some(dir) = &self.data {
            flags.push(("data.dir", dir.to_string_lossy().into_owned()));
        }
        if let Some(store) = &self.store {
            flags.push(("store.url", store.reveal().to_owned()));
        }
        if let Some(listen) = &self.listen {
            flags.push(("http.listen", listen.to_string()));
        }
        if let Some(url) = &self.sandbox_psp {
            flags.push(("sandbox.url", url.clone()));
        }
        if let Some(profile) = &self.profile {
            flags.push(("profile", profile.clone()));
        }
        config::load(self.config.as_deref(), std::env::vars(), &flags)
    }
}

/// Serves until Ctrl-C or SIGTERM.
///
/// # Errors
/// [`Error`]: the settings are wrong, or the server cannot start.
pub async fn run(args: Args) -> Result<ExitCode, Error> {
    let hang_ups = unix::signal(SignalKind::hangup())?;
    let config = args.settings.load()?.checked()?;
    let logs = telemetry::start(&config.log).map_err(Error::Usage)?;
    let app = start(&config).await?;
    let link = sign_in::at_start(&app.store, &app.url()).await.unwrap_or_else(|error| {
        tracing::warn!(%error, "cannot create a sign-in link");
        None
    });
    stdout::notice(banner(&app, &config, link)?);
    tokio::select! {
        () = told_to_stop() => {}
        () = reload_log_filter(hang_ups, &args.settings, &logs) => {}
        () = app.server_ended() => return Err(Error::Usage("the HTTP server has ended: see the log".into())),
    }
    stderr::line("stopping: waiting for requests in progress");
    if tokio::time::timeout(STOP_WITHIN, app.stop()).await.is_err() {
        stderr::line("stopped before all requests had finished; nothing acknowledged is lost");
    }
    Ok(ExitCode::SUCCESS)
}

/// Starts the server. If the data folder is in use, this waits up to [`FOLDER_WITHIN`]:
/// `kontor key` locks a new folder while it creates the tables, and a server that is stopping may
/// still have the folder open.
async fn start(config: &config::Config) -> Result<App, app::Error> {
    let until = Instant::now() + FOLDER_WITHIN;
    loop {
        match Box::pin(App::start(config)).await {
            Err(app::Error::Open(OpenError::InUse { .. })) if Instant::now() < until => {
                tokio::time::sleep(FOLDER_EVERY).await;
            }
            started => return started,
        }
    }
}

fn banner(app: &App, config: &config::Config, link: Option<StartLink>) -> std::io::Result<Vec<u8>> {
    let url = app.url();
    let store = StorePlace::of(config);
    let provider = match config.sandbox.url.as_str() {
        "" => "none: start `kontor sandbox-psp` and use --sandbox-psp URL".to_owned(),
        url => format!("sandbox at {}", masked_url(url)),
    };
    let mut out = Vec::new();
    writeln!(out, "kontor {} is ready\n", env!("CARGO_PKG_VERSION"))?;
    match &link {
        Some(StartLink::Shown(link)) => {
            writeln!(out, "  admin     {}", link.address)?;
            writeln!(out, "            (signs in {})", link.valid_for)?;
        }
        Some(StartLink::File(file)) => {
            writeln!(out, "  admin     {url}/admin")?;
            writeln!(out, "            (a link that signs in once is in {})", file.display())?;
        }
        None => writeln!(out, "  admin     {url}/admin")?,
    }
    writeln!(out, "  API       {url}/v1")?;
    writeln!(out, "  API docs  {url}/docs")?;
    writeln!(out, "  health    {url}/readyz")?;
    writeln!(out, "  metrics   {}/metrics", app.internal_url())?;
    writeln!(out, "  data      {store}")?;
    writeln!(out, "  payments  {provider}\n")?;
    writeln!(out, "  an API key:      kontor key create {} --scope admin", store.flag())?;
    writeln!(out, "  a sign-in link:  kontor sign-in {} --url {url}", store.flag())?;
    Ok(out)
}

/// Waits for Ctrl-C or SIGTERM.
pub(super) async fn told_to_stop() {
    let terminate = unix::signal(SignalKind::terminate());
    let Ok(mut terminate) = terminate else {
        let _ = tokio::signal::ctrl_c().await;
        return;
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}

/// At each SIGHUP, reads the settings again and changes the log filter. If the logs go to a
/// terminal, SIGHUP means that the terminal was closed: then the function returns.
async fn reload_log_filter(
    mut hang_ups: unix::Signal,
    settings: &SettingArgs,
    logs: &telemetry::LogFilter,
) {
    // Checked before the signal: afterwards, a closed terminal is no longer a terminal.
    let terminal = std::io::stderr().is_terminal();
    while hang_ups.recv().await.is_some() && !terminal {
        let read = settings.load().and_then(Loaded::checked).map_err(|error| error.to_string());
        match read.and_then(|config| logs.set(&config.log.filter).map(|()| config.log.filter)) {
            Ok(filter) => tracing::warn!(
                filter,
                "log.filter was read again; all other settings need a restart"
            ),
            Err(error) => tracing::error!(error, "the settings were not read again"),
        }
    }
}
