//! The target for webhooks of the sandbox: only recent ones with a valid signature are accepted.

use std::sync::OnceLock;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use super::split;
use crate::domain::time::Timestamp;
use crate::providers::payment::{PaymentNotice, Provider as _, WebhookError, WebhookRequest};
use crate::providers::sandbox::{Options, Sandbox};

const SECRET: &str = "a secret of this target";
const NOW_SECS: i64 = 1_700_000_000;

fn sandbox() -> Option<&'static Sandbox> {
    static SANDBOX: OnceLock<Option<Sandbox>> = OnceLock::new();
    let options = || Options { webhook_secret: SECRET.into(), ..Options::default() };
    SANDBOX.get_or_init(|| Sandbox::new(options()).ok()).as_ref()
}

/// The signature of a body, as a provider makes it.
fn sign(at: &str, body: &[u8]) -> String {
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()) else {
        return String::new();
    };
    mac.update(format!("{at}.").as_bytes());
    mac.update(body);
    let tag = hex::encode(mac.finalize().into_bytes());
    format!("t={at},v1={tag}")
}

fn read(sandbox: &Sandbox, signature: &str, body: &[u8]) -> Result<PaymentNotice, WebhookError> {
    let request = WebhookRequest {
        method: "POST",
        path: "/v1/webhooks/sandbox",
        query: "",
        headers: vec![("sandbox-signature", signature.as_bytes())],
        body,
    };
    sandbox.read_webhook(&request, Timestamp::from_millis(NOW_SECS * 1000))
}

/// The first byte selects the variant. Of the rest, the first line is the signature header, and the
/// other lines are the body. If the first byte is odd, the line is instead the time for which a
/// valid signature is made.
pub(super) fn webhook(bytes: &[u8]) {
    let (way, bytes) = split(bytes);
    let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    let (line, body) = bytes.split_at(end);
    let body = body.strip_prefix(b"\n").unwrap_or(body);
    let Ok(line) = std::str::from_utf8(line) else { return };
    let Some(sandbox) = sandbox() else { return };
    if way % 2 == 0 {
        let read = read(sandbox, line, body);
        let refused = matches!(
            read,
            Err(WebhookError::Missing | WebhookError::Forged | WebhookError::Malformed(_))
        );
        // Nobody can forge the header without the secret.
        assert!(refused, "a forged webhook was taken: {line:?}");
        return;
    }
    let signed = line.parse::<i64>().ok();
    let fresh = signed.is_some_and(|at| at.abs_diff(NOW_SECS) <= 300);
    match read(sandbox, &sign(line, body), body) {
        Ok(notice) => {
            assert!(fresh, "a webhook signed at {line:?} was taken");
            assert_eq!(sandbox.reread_webhook(body).ok(), Some(notice));
        }
        Err(WebhookError::Malformed(why)) => assert!(!why.is_empty()),
        Err(WebhookError::Expired) => assert!(!fresh, "{line:?} is fresh"),
        // If the text of the time contains a comma or spaces, the sandbox reads another time from
        // the header than the signed one.
        Err(error) => assert!(line.contains([',', ' ']) || line.trim() != line, "{error}"),
    }
    if let Some((last, rest)) = body.split_last() {
        let forged = [rest, &[last ^ 1]].concat();
        let read = read(sandbox, &sign(line, body), &forged);
        assert!(read.is_err(), "a body that was changed was taken");
    }
}
