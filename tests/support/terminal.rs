//! A terminal with somebody at it.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use super::eventually;

/// A terminal of this size: the end that a person holds, and the one that a program does.
pub fn terminal(rows: u16, columns: u16) -> (OwnedFd, OwnedFd) {
    let main = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
    grantpt(&main).and_then(|()| unlockpt(&main)).expect("the terminal may be used");
    resize(&main, rows, columns);
    let name = ptsname(&main, Vec::new()).expect("the terminal has a name");
    let program = File::options().read(true).write(true).open(name.to_str().expect("a name in UTF-8"));
    (main, program.expect("the terminal opens").into())
}

fn resize(main: &OwnedFd, rows: u16, columns: u16) {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(main, size).expect("the terminal has a size");
}

/// A program that runs at a terminal, in a session of its own. Dropping it kills it.
#[derive(Debug)]
pub struct AtTerminal {
    main: OwnedFd,
    child: Child,
    shown: Arc<Mutex<String>>,
}

impl AtTerminal {
    pub fn start(command: &Command, rows: u16, columns: u16) -> Self {
        let (main, program) = terminal(rows, columns);
        let mut session = Command::new("setsid");
        session.args(["--ctty", "--wait"]).arg(command.get_program()).args(command.get_args());
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => session.env(key, value),
                None => session.env_remove(key),
            };
        }
        let end = || program.try_clone().expect("the terminal is opened again");
        let child = session.env("TERM", "xterm").stdin(end()).stdout(end()).stderr(program);
        let child = child.spawn().expect("setsid (of util-linux) starts a program");
        let shown = Arc::new(Mutex::new(String::new()));
        let (mut reader, text) = (File::from(main.try_clone().expect("a second end")), Arc::clone(&shown));
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            // The last program's end is an error here.
            while let Ok(count @ 1..) = reader.read(&mut buffer) {
                let piece = String::from_utf8_lossy(&buffer[..count]).into_owned();
                text.lock().unwrap_or_else(PoisonError::into_inner).push_str(&piece);
            }
        });
        Self { main, child, shown }
    }

    /// Waits until this is shown, and forgets what was shown so far.
    #[track_caller]
    pub fn sees(&mut self, wanted: &str) {
        eventually(&format!("{wanted:?} is shown"), 300, || {
            let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(at) = shown.find(wanted) else { return Err(format!("there is {shown:?}")) };
            shown.replace_range(..at + wanted.len(), "");
            Ok(())
        });
    }

    pub fn types(&self, keys: &str) {
        let mut writer = File::from(self.main.try_clone().expect("a second end"));
        writer.write_all(keys.as_bytes()).expect("keys are typed");
    }

    pub fn resize(&self, rows: u16, columns: u16) {
        resize(&self.main, rows, columns);
    }

    #[track_caller]
    pub fn status(mut self) -> i32 {
        eventually("the program ends", 300, || {
            self.child.try_wait().expect("it can be waited for").ok_or_else(|| "it runs".to_owned())
        })
        .code()
        .expect("it has a status")
    }
}

impl Drop for AtTerminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
