//! A registry in trouble.

use std::fmt;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use super::Registry;
use super::front::{Act, Front, Request};

type Chosen = Box<dyn Fn(&Request) -> bool + Send>;

/// What happens to some requests.
struct Trouble {
    chosen: Chosen,
    act: Act,
    /// How many requests more have it.
    left: usize,
    /// How many had it.
    had: usize,
}

/// Stands before a registry that is well.
pub struct Troubled {
    port: u16,
    trouble: Arc<Mutex<Trouble>>,
}

impl fmt::Debug for Troubled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Troubled").field("port", &self.port).finish_non_exhaustive()
    }
}

impl Troubled {
    /// In no trouble yet.
    pub fn before(registry: &Registry) -> Self {
        let front = Front::open();
        let port = front.port;
        let trouble = Trouble { chosen: Box::new(|_| false), act: Act::Pass, left: 0, had: 0 };
        let trouble = Arc::new(Mutex::new(trouble));
        let shared = Arc::clone(&trouble);
        front.pass_to(registry.port, move |request| shared.lock().unwrap().of(request));
        Self { port, trouble }
    }

    pub fn image(&self, name: &str) -> String {
        format!("{}:{}/{name}", Ipv4Addr::LOCALHOST, self.port)
    }

    /// This happens to the next so many of these requests.
    pub fn begin(&self, act: Act, left: usize, chosen: impl Fn(&Request) -> bool + Send + 'static) {
        *self.trouble.lock().unwrap() = Trouble { chosen: Box::new(chosen), act, left, had: 0 };
    }

    /// How many requests it has happened to since.
    pub fn count(&self) -> usize {
        self.trouble.lock().unwrap().had
    }

    /// The same; it happens to none any more.
    pub fn end(&self) -> usize {
        let mut trouble = self.trouble.lock().unwrap();
        trouble.left = 0;
        trouble.had
    }
}

impl Trouble {
    fn of(&mut self, request: &Request) -> Act {
        if self.left == 0 || !(self.chosen)(request) {
            return Act::Pass;
        }
        (self.left, self.had) = (self.left - 1, self.had + 1);
        self.act.clone()
    }
}
