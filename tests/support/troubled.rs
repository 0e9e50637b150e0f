//! A registry in trouble.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use super::Registry;
use super::front::{Act, Front};

/// What happens to requests of one method.
#[derive(Debug)]
struct Trouble {
    method: &'static str,
    act: Act,
    /// How many requests more have it.
    left: usize,
    /// How many had it.
    had: usize,
}

/// Stands before a registry that is well.
#[derive(Debug)]
pub struct Troubled {
    port: u16,
    trouble: Arc<Mutex<Trouble>>,
}

impl Troubled {
    /// In no trouble yet.
    pub fn before(registry: &Registry) -> Self {
        let front = Front::open();
        let port = front.port;
        let trouble = Arc::new(Mutex::new(Trouble { method: "", act: Act::Pass, left: 0, had: 0 }));
        let shared = Arc::clone(&trouble);
        front.pass_to(registry.port, move |request| shared.lock().unwrap().of(request.method()));
        Self { port, trouble }
    }

    pub fn image(&self, name: &str) -> String {
        format!("{}:{}/{name}", Ipv4Addr::LOCALHOST, self.port)
    }

    /// This happens to the next so many requests of this method.
    pub fn begin(&self, method: &'static str, act: Act, left: usize) {
        *self.trouble.lock().unwrap() = Trouble { method, act, left, had: 0 };
    }

    /// How many requests it has happened to since; it happens to none any more.
    pub fn end(&self) -> usize {
        let mut trouble = self.trouble.lock().unwrap();
        trouble.left = 0;
        trouble.had
    }
}

impl Trouble {
    fn of(&mut self, method: &str) -> Act {
        if method != self.method || self.left == 0 {
            return Act::Pass;
        }
        (self.left, self.had) = (self.left - 1, self.had + 1);
        self.act.clone()
    }
}
