//! A second hold on a connection, to cut it: a peer that reads nothing cannot be told to go.

use std::any::Any;
use std::cell::RefCell;
use std::net::{Shutdown, TcpStream};

use actix_web::HttpRequest;
use actix_web::dev::Extensions;

/// A hold on a connection, until its first request has shown whether it is a socket.
pub struct Wire(RefCell<Option<TcpStream>>);

/// Keeps a hold on a new connection.
pub fn connected(io: &dyn Any, extensions: &mut Extensions) {
    if let Some(io) = io.downcast_ref::<actix_web::rt::net::TcpStream>() {
        extensions.insert(Wire(RefCell::new(second(io))));
    }
}

#[cfg(unix)]
fn second(io: &actix_web::rt::net::TcpStream) -> Option<TcpStream> {
    use std::os::fd::AsFd as _;
    io.as_fd().try_clone_to_owned().ok().map(TcpStream::from)
}

#[cfg(not(unix))]
fn second(_: &actix_web::rt::net::TcpStream) -> Option<TcpStream> {
    None
}

/// Takes the hold on a request's connection, and leaves none behind.
pub fn take(request: &HttpRequest) -> Option<TcpStream> {
    request.conn_data::<Wire>().and_then(|wire| wire.0.borrow_mut().take())
}

/// Cuts a connection, whatever it is waiting for.
pub fn cut(wire: Option<&TcpStream>) {
    if let Some(wire) = wire {
        // An error means that it is cut already.
        let _gone = wire.shutdown(Shutdown::Both);
    }
}
