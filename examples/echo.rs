//! A bare actix-web server that returns the JSON it gets: the limit of this machine, for
//! comparison by `kontor load echo`. It contains no code of kontor.

use std::net::SocketAddr;

use actix_web::{App, HttpServer, web};
use serde::{Deserialize, Serialize};

#[derive(Deserialize, Serialize)]
struct Line {
    sku: String,
    quantity: i64,
    amount: i64,
}

#[derive(Deserialize, Serialize)]
struct Document {
    id: String,
    name: String,
    email: String,
    reference: String,
    lines: Vec<Line>,
    city: String,
    postal_code: String,
    country: String,
    total: i64,
}

async fn echo(document: web::Json<Document>) -> web::Json<Document> {
    document
}

#[actix_web::main]
async fn main() -> std::io::Result<()> {
    let mut words = std::env::args().skip_while(|word| word != "--listen").skip(1);
    let listen = words.next().unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let listen: SocketAddr = listen.parse().map_err(std::io::Error::other)?;
    let cores = std::thread::available_parallelism()?.get();
    let server = HttpServer::new(|| {
        App::new().route("/", web::get().to(async || "ok")).route("/echo", web::post().to(echo))
    })
    .workers(cores)
    .bind(listen)?;
    for address in server.addrs() {
        println!("http://{address}/echo");
    }
    server.run().await
}
