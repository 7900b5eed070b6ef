//! A second hold on a connection, to cut it: a peer that reads nothing cannot be told to go.

use std::any::Any;
use std::net::{Shutdown, TcpStream};
use std::rc::Rc;

use actix_web::HttpRequest;
use actix_web::dev::Extensions;

/// A hold on a connection, for as long as that lives: any of its requests may turn out to be a
/// socket or stream.
pub struct Wire(Rc<TcpStream>);

/// Keeps a hold on a new connection.
pub fn connected(io: &dyn Any, extensions: &mut Extensions) {
    if let Some(io) = io.downcast_ref::<actix_web::rt::net::TcpStream>()
        && let Some(second) = second(io)
    {
        extensions.insert(Wire(Rc::new(second)));
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

/// The hold on a request's connection.
pub fn of(request: &HttpRequest) -> Option<Rc<TcpStream>> {
    request.conn_data::<Wire>().map(|wire| Rc::clone(&wire.0))
}

/// Cuts a connection, whatever it is waiting for.
pub fn cut(wire: Option<&TcpStream>) {
    if let Some(wire) = wire {
        // An error means that it is cut already.
        let _gone = wire.shutdown(Shutdown::Both);
    }
}
