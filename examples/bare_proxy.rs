//! bare
use std::net::{TcpListener, TcpStream};
struct G;
impl pgwhy::net::Guard for G { fn ended(self: Box<Self>, _: pgwhy::net::Totals) {} }
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let l = TcpListener::bind(&a[1]).unwrap();
    let e = pgwhy::net::engine::Engine::start(a[3].parse().unwrap()).unwrap();
    for c in l.incoming() {
        let c = c.unwrap();
        let s = TcpStream::connect(&a[2]).unwrap();
        for x in [&c, &s] { x.set_nodelay(true).unwrap(); x.set_nonblocking(true).unwrap(); }
        e.add(c.into(), s.into(), Box::new(G)).unwrap();
    }
}
