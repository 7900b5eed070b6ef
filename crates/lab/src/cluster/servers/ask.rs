//! One HTTP request without a runtime, to check whether a server answers.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Timeout of one answer.
const ANSWER: Duration = Duration::from_secs(2);

/// Gets a path; returns the status and the whole answer, with its head.
///
/// # Errors
/// The system's error; also if the answer is not HTTP.
pub fn get(addr: SocketAddr, path: &str) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&addr, ANSWER)?;
    stream.set_read_timeout(Some(ANSWER))?;
    let ask = format!("GET {path} HTTP/1.0\r\nHost: {addr}\r\nConnection: close\r\n\r\n");
    stream.write_all(ask.as_bytes())?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok());
    match status {
        Some(status) => Ok((status, text)),
        None => Err(std::io::Error::other(format!("not an HTTP response: {text}"))),
    }
}
