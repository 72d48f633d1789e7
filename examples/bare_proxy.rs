//! bare
use std::net::{TcpListener, TcpStream};
struct G;
impl pgwhy::net::Guard for G { fn ended(self: Box<Self>, _: pgwhy::net::Totals) {} }
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let get = |n: &str| a.iter().position(|x| x == n).map(|i| a[i+1].clone());
    let l = TcpListener::bind(get("--listen").unwrap()).unwrap();
    let up = get("--upstream").unwrap();
    let e = pgwhy::net::engine::Engine::start(get("--threads").map_or(2, |t| t.parse().unwrap())).unwrap();
    for c in l.incoming() {
        let c = c.unwrap();
        let s = TcpStream::connect(&up).unwrap();
        for x in [&c, &s] { x.set_nodelay(true).unwrap(); x.set_nonblocking(true).unwrap(); }
        e.add(c.into(), s.into(), Box::new(G)).unwrap();
    }
}
