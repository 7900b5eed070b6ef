//! `kontor sign-in` and `kontor sign-out`: one-time links that sign a browser in to the admin page,
//! and the end of sessions, directly in the store, whether or not a server is using it.
//! `kontor serve` and `kontor demo` also create their links here.

use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use kontor::actors::engine::clock::Clock;
use kontor::domain::time::Span;
use kontor::store::session::{LINK_LASTS, SET_UP_LASTS};
use kontor::store::{self, Store, create_private};
use kontor::telemetry::security::SecurityEvent;
use kontor_lab::{stderr, stdout};
use serde_json::json;

use super::store_location::StoreArgs;
use super::{Error, audit, key};

/// The name of the stored value that contains the time at which a store's first link was shown.
const SET_UP: &str = "set_up_link_shown";
/// The file in the data folder that has the first link if there is no terminal to show it on.
const LINK_FILE: &str = "sign-in-link";

/// Print a one-time sign-in link for the admin page
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
The link works once, within 15 minutes, on the server of this store. It starts a session with the
given scopes, which ends after 12 hours without use, and after 7 days at most.

Examples:
  kontor sign-in
  kontor sign-in --data /srv/shop --url https://shop.example --scope orders:read --name support")]
pub struct Args {
    /// The store.
    #[command(flatten)]
    pub store: StoreArgs,
    /// A scope of the session; may be repeated
    #[arg(long = "scope", value_parser = key::scopes(), default_value = "admin")]
    pub scopes: Vec<String>,
    /// The name of the session
    #[arg(long, default_value = "sign-in link")]
    pub name: String,
    /// The server's URL for browsers
    #[arg(long, env = "KONTOR_URL", default_value = "http://127.0.0.1:8080", value_name = "URL")]
    pub url: String,
    /// Print the link as JSON
    #[arg(long)]
    pub json: bool,
}

/// Creates a link and shows it.
///
/// # Errors
/// [`Error`]: the store cannot be opened, or the name is not valid.
pub async fn run(args: Args) -> Result<ExitCode, Error> {
    let Args { store, scopes, name, url, json } = args;
    let (store, now) = (key::open(&store.place()?).await?, Clock::system().now());
    let made = store.create_link(&name, &scopes, now, LINK_LASTS).await;
    store.close().await;
    let link = address(&url, made?.reveal());
    audit::log(SecurityEvent::LinkCreated, &format!("{name} ({})", scopes.join(" ")));
    if json {
        let expires_at = (now + LINK_LASTS).to_string();
        stdout::json(&json!({"link": link, "scopes": scopes, "expires_at": expires_at}))?;
    } else {
        stdout::line(link);
        stderr::line("the link works once, within 15 minutes");
    }
    Ok(ExitCode::SUCCESS)
}

/// End sessions of the admin page
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Without an id, all sessions end, and unused links stop working. A running server refuses an ended
session within a second, and closes its live connections within 5 seconds. API keys are not
affected: kontor key revoke.

Examples:
  kontor sign-out
  kontor sign-out --data /srv/shop 5f0c…")]
pub struct SignOutArgs {
    /// The id of a session, from the log or the journal
    pub id: Option<String>,
    /// The store.
    #[command(flatten)]
    pub store: StoreArgs,
}

/// Ends one session, or all sessions and unused links.
///
/// # Errors
/// [`Error`]: the store cannot be opened, or there is no session with the id.
pub async fn run_sign_out(args: SignOutArgs) -> Result<ExitCode, Error> {
    let store = args.store.place()?.open_and_migrate().await?;
    let said = match &args.id {
        Some(id) => {
            let id = id.trim_start_matches("session:");
            match store.end_session(id).await? {
                true => "ended".to_owned(),
                false => return Err(Error::Usage(format!("there is no session {id}"))),
            }
        }
        None => {
            let (sessions, links) = store.end_all_sessions().await?;
            format!("{sessions} sessions ended, {links} links revoked")
        }
    };
    store.close().await;
    audit::log(
        SecurityEvent::SessionsEnded,
        args.id.as_deref().unwrap_or("all sessions and links"),
    );
    stderr::line(said);
    Ok(ExitCode::SUCCESS)
}

/// A sign-in link to show.
pub struct SignInLink {
    /// The URL; the token is in its fragment, which browsers do not send to servers.
    pub address: String,
    /// The token in the URL.
    pub token: String,
    /// How often and for how long it works, in words.
    pub valid_for: &'static str,
}

/// A link that `kontor serve` has for whoever starts it.
pub enum StartLink {
    /// To be shown, on a terminal.
    Shown(SignInLink),
    /// In a file that only its owner can read.
    File(PathBuf),
}

/// The link of a start. If standard output is a terminal, there is one at every start. Any other
/// output may be stored and read by others: there the first start of a store without API keys writes
/// its link to a file in the data folder, and a later one removes the file once the link no longer
/// works. A store in PostgreSQL has no folder for it, and so no link.
///
/// # Errors
/// [`store::Error`]; or the file cannot be written.
pub async fn at_start(store: &Store, url: &str) -> Result<Option<StartLink>, store::Error> {
    let now = Clock::system().now();
    let file = store.dir().map(|dir| dir.join(LINK_FILE));
    let kept = match &file {
        Some(file) => works_still(store, file).await?,
        None => false,
    };
    let first = store.setting(SET_UP).await?.is_none() && store.keys().await?.is_empty();
    if io::stdout().is_terminal() {
        let link = match first {
            true => make(store, url, "set-up link", SET_UP_LASTS).await?,
            false => make(store, url, "sign-in link", LINK_LASTS).await?,
        };
        store.put_setting(SET_UP, &now.to_string()).await?;
        return Ok(Some(StartLink::Shown(link)));
    }
    let Some(file) = file else { return Ok(None) };
    if first {
        let link = make(store, url, "set-up link", SET_UP_LASTS).await?;
        create_private(&file)
            .and_then(|mut file| writeln!(file, "{}", link.address))
            .map_err(store::Error::from)?;
        store.put_setting(SET_UP, &now.to_string()).await?;
    }
    Ok((first || kept).then_some(StartLink::File(file)))
}

/// Whether the link in a file works still; if not, the file is removed.
async fn works_still(store: &Store, file: &Path) -> Result<bool, store::Error> {
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error.into()),
    };
    let token = text.trim_end().rsplit_once('=').map_or("", |(_, token)| token);
    if store.link_works(token, Clock::system().now()).await? {
        return Ok(true);
    }
    std::fs::remove_file(file)?;
    Ok(false)
}

/// Creates a link with the scope `admin`.
///
/// # Errors
/// [`store::Error`].
pub async fn make(
    store: &Store,
    url: &str,
    name: &str,
    lasts: Span,
) -> Result<SignInLink, store::Error> {
    let scopes = ["admin".to_owned()];
    let made = store.create_link(name, &scopes, Clock::system().now(), lasts).await?;
    audit::log(SecurityEvent::LinkCreated, &format!("{name} (admin)"));
    let token = made.reveal().to_owned();
    let valid_for =
        if lasts == LINK_LASTS { "once, within 15 minutes" } else { "once, within 24 hours" };
    Ok(SignInLink { address: address(url, &token), token, valid_for })
}

fn address(url: &str, token: &str) -> String {
    format!("{}/admin#sign-in={token}", url.trim_end_matches('/'))
}
