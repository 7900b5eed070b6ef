//! TLS between this process and others: reads the files that the settings name and says what is wrong
//! with them, makes the configurations of connections between nodes, and puts the alerts of
//! connections into words.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::pki_types::pem::{Error as PemError, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::domain::tls_files::TlsFiles;

const AUTHORITIES: &str = "the certificates of the authorities that are trusted, in PEM format";
const CERTIFICATE: &str = "the certificate that is shown, in PEM format";
const MEMBER: &str =
    "a certificate of this node, valid now, that an authority in tls.ca beside it has signed";
const HOST: &str = "a certificate that names this host, or cluster.url a host that it names";
const KEY: &str = "the private key of that certificate, in PEM format and without a password";

/// Why a file for TLS cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{setting} is {}, and {found}: it must name a file with {wanted}", file.display())]
pub struct TlsFileFault {
    setting: String,
    file: PathBuf,
    found: String,
    wanted: &'static str,
}

/// Why nodes cannot use TLS as it is configured.
#[derive(Clone, Debug, thiserror::Error)]
pub enum NodeTlsError {
    /// A file cannot be used.
    #[error(transparent)]
    File(#[from] TlsFileFault),
    /// The certificates cannot be used together.
    #[error("cannot use {0}: {1}")]
    Unusable(String, rustls::Error),
}

/// The authorities, if they are not those of the system, and this process's certificate and key.
pub struct TlsContent {
    authorities: Option<RootCertStore>,
    own: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
}

/// Both ends of connections between nodes.
#[derive(Clone)]
pub struct NodeTls {
    /// Admits who has a certificate of the authority.
    pub server: Arc<ServerConfig>,
    /// Shows this node's certificate, and wants one of the authority for the host of the address.
    pub client: ClientConfig,
    admits: Arc<dyn ClientCertVerifier>,
    authorities: Arc<RootCertStore>,
    chain: Vec<CertificateDer<'static>>,
}

impl fmt::Debug for NodeTls {
    /// Without the private key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeTls").finish_non_exhaustive()
    }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Reads the files of a setting such as `bus.tls`.
///
/// # Errors
/// [`TlsFileFault`] of the first file that cannot be used.
pub fn read(setting: &str, files: &TlsFiles) -> Result<TlsContent, TlsFileFault> {
    let authorities = files.ca().map(|file| authorities(setting, file)).transpose()?;
    let own = files.own().map(|(cert, key)| own(setting, cert, key)).transpose()?;
    Ok(TlsContent { authorities, own })
}

/// What is wrong with a file.
struct Fault<'a> {
    setting: String,
    file: &'a Path,
    wanted: &'static str,
}

impl Fault<'_> {
    fn of(&self, found: impl fmt::Display) -> TlsFileFault {
        let (setting, file) = (self.setting.clone(), self.file.to_owned());
        TlsFileFault { setting, file, found: found.to_string(), wanted: self.wanted }
    }

    fn text(&self) -> Result<Vec<u8>, TlsFileFault> {
        std::fs::read(self.file).map_err(|error| self.of(format!("it cannot be read ({error})")))
    }

    fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, TlsFileFault> {
        let text = self.text()?;
        let found: Result<Vec<_>, PemError> = CertificateDer::pem_slice_iter(&text).collect();
        let found = found.map_err(|error| self.of(format!("its PEM is damaged ({error})")))?;
        if found.is_empty() { Err(self.of("it has no certificate")) } else { Ok(found) }
    }
}

fn authorities(setting: &str, file: &Path) -> Result<RootCertStore, TlsFileFault> {
    let fault = Fault { setting: format!("{setting}.ca"), file, wanted: AUTHORITIES };
    let mut known = RootCertStore::empty();
    for certificate in fault.certificates()? {
        let added = known.add(certificate);
        added.map_err(|error| fault.of(format!("a certificate in it is damaged ({error})")))?;
    }
    Ok(known)
}

fn own(
    setting: &str,
    cert: &Path,
    key: &Path,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsFileFault> {
    let of_cert = Fault { setting: format!("{setting}.cert"), file: cert, wanted: CERTIFICATE };
    let chain = of_cert.certificates()?;
    let of_key = Fault { setting: format!("{setting}.key"), file: key, wanted: KEY };
    let text = of_key.text()?;
    let is_locked = text.windows(9).any(|word| word == b"ENCRYPTED");
    let key = PrivateKeyDer::from_pem_slice(&text).map_err(|error| match error {
        _ if is_locked => of_key.of("its key has a password"),
        PemError::NoItemsFound => of_key.of("it has no private key"),
        error => of_key.of(format!("its PEM is damaged ({error})")),
    })?;
    let pair = CertifiedKey::from_der(chain.clone(), key.clone_key(), &provider());
    match pair {
        Ok(_) => Ok((chain, key)),
        Err(rustls::Error::InconsistentKeys(_)) => {
            Err(of_key.of(format!("its key does not belong to the certificate in {setting}.cert")))
        }
        Err(rustls::Error::InvalidCertificate(error)) => {
            Err(of_cert.of(format!("its certificate cannot be used ({error})")))
        }
        Err(error) => Err(of_key.of(format!("its key cannot be used ({error})"))),
    }
}

/// The authorities that the system trusts, as far as they can be read.
fn of_system() -> RootCertStore {
    let mut known = RootCertStore::empty();
    known.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    known
}

impl TlsContent {
    /// The client's side of a connection; `None` if the certificate cannot be used.
    #[must_use]
    pub fn client(self) -> Option<ClientConfig> {
        let config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .ok()?
            .with_root_certificates(self.authorities.unwrap_or_else(of_system));
        match self.own {
            Some((chain, key)) => config.with_client_auth_cert(chain, key).ok(),
            None => Some(config.with_no_client_auth()),
        }
    }
}

impl NodeTls {
    /// Reads the files of a setting with which nodes prove to each other who they are; `None` if it
    /// names none.
    ///
    /// # Errors
    /// [`NodeTlsError`]: a file cannot be used, or no other node would accept the certificate.
    pub fn read(setting: &str, files: &TlsFiles) -> Result<Option<Self>, NodeTlsError> {
        let TlsContent { authorities: Some(known), own: Some((chain, key)) } =
            read(setting, files)?
        else {
            return Ok(None);
        };
        let unusable = |error| NodeTlsError::Unusable(setting.to_owned(), error);
        let known = Arc::new(known);
        let admits = WebPkiClientVerifier::builder_with_provider(Arc::clone(&known), provider());
        let admits =
            admits.build().map_err(|error| unusable(rustls::Error::General(error.to_string())))?;
        if let Err(error) = is_valid(&*admits, &chain, UnixTime::now()) {
            let fault =
                Fault { setting: format!("{setting}.cert"), file: &files.cert, wanted: MEMBER };
            return Err(fault.of(format!("other nodes would refuse it ({error})")).into());
        }
        let server = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(unusable)?
            .with_client_cert_verifier(Arc::clone(&admits))
            .with_single_cert(chain.clone(), key.clone_key())
            .map_err(unusable)?;
        let client = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(unusable)?
            .with_root_certificates(Arc::clone(&known))
            .with_client_auth_cert(chain.clone(), key)
            .map_err(unusable)?;
        Ok(Some(Self { server: Arc::new(server), client, admits, authorities: known, chain }))
    }

    /// Checks that other nodes accept this node's certificate for the host at which they call it.
    ///
    /// # Errors
    /// [`NodeTlsError`]: they would refuse it.
    pub fn check_host(
        &self,
        setting: &str,
        files: &TlsFiles,
        host: &str,
    ) -> Result<(), NodeTlsError> {
        let fault = Fault { setting: format!("{setting}.cert"), file: &files.cert, wanted: HOST };
        let refused = |why: String| {
            let found =
                format!("other nodes, which call this one at {host}, would refuse it ({why})");
            NodeTlsError::from(fault.of(found))
        };
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::clone(&self.authorities), provider());
        let verifier = verifier.build().map_err(|error| refused(error.to_string()))?;
        let name = ServerName::try_from(host).map_err(|error| refused(error.to_string()))?;
        let (first, between) =
            self.chain.split_first().ok_or_else(|| refused("it has none".into()))?;
        let accepted = verifier.verify_server_cert(first, between, &name, &[], UnixTime::now());
        accepted.map(drop).map_err(|error| refused(error.to_string()))
    }

    /// Whether other nodes will refuse this node's certificate after a time.
    #[must_use]
    pub fn expires_within(&self, span: Duration) -> bool {
        let now = Duration::from_secs(UnixTime::now().as_secs());
        is_valid(&*self.admits, &self.chain, UnixTime::since_unix_epoch(now + span)).is_err()
    }
}

/// Whether a node with this certificate is admitted at a time.
fn is_valid(
    admits: &dyn ClientCertVerifier,
    chain: &[CertificateDer<'_>],
    at: UnixTime,
) -> Result<(), rustls::Error> {
    let (first, between) = chain.split_first().ok_or(rustls::Error::NoCertificatesPresented)?;
    admits.verify_client_cert(first, between, at).map(drop)
}

/// An error of a connection that uses the files of a setting, with what to do about it if it is about
/// certificates.
#[must_use]
pub fn advised(setting: &str, files: &TlsFiles, error: &str) -> String {
    match advice(setting, files, error) {
        Some(advice) => format!("{error}: {advice}"),
        None => error.to_owned(),
    }
}

/// What to do about an error; `None` if it is not about certificates.
#[must_use]
pub fn advice(setting: &str, files: &TlsFiles, error: &str) -> Option<String> {
    let has = |words: &[&str]| words.iter().any(|word| error.contains(word));
    let own = format!("{setting}.cert and {setting}.key");
    Some(if has(&["UnknownIssuer", "BadSignature"]) {
        match files.ca() {
            Some(ca) => format!(
                "the server's certificate is not of an authority in {setting}.ca ({}): name the file \
                 with the authority that signed it",
                ca.display()
            ),
            None => format!(
                "the server's certificate is of an authority that this system does not know: name \
                 the file with that authority's certificate in {setting}.ca"
            ),
        }
    } else if has(&["NotValidForName", "not valid for name"]) {
        "the server's certificate is not for the host of the address: use a host that it names"
            .into()
    } else if has(&["invalid peer certificate"]) {
        "the server's certificate is not valid: see to it there".into()
    } else if has(&["CertificateRequired", "HandshakeFailure"]) && files.own().is_none() {
        format!("the server wants a certificate: name one in {own}")
    } else if has(&["fatal alert: CertificateExpired"]) {
        format!("the certificate in {setting}.cert has expired: get a new one")
    } else if has(&["BadCertificate", "UnknownCA", "CertificateUnknown", "DecryptError"]) {
        match files.own() {
            Some((cert, _)) => format!(
                "the server refuses the certificate in {setting}.cert ({}): it must be of an \
                 authority that the server trusts",
                cert.display()
            ),
            None => format!("the server wants a certificate: name one in {own}"),
        }
    } else {
        return None;
    })
}
