//! What a container sees from inside, as one line of JSON. It asks the kernel only, needs nothing of its image, and tells
//! what it could not find out in the place where that would stand.

mod files;
mod mounts;
mod process;

use std::fs;
use std::io;
use std::path::Path;

use serde_json::{Map, Value, json};

/// Its argument, if it is not to end.
const STAY: &str = "stay";

fn main() {
    let report = json!({
        "args": std::env::args().collect::<Vec<_>>(),
        "env": std::env::vars().collect::<std::collections::BTreeMap<_, _>>(),
        "cwd": text(std::env::current_dir().map(|path| path.display().to_string())),
        "hostname": text(read("/proc/sys/kernel/hostname")),
        "is_init": std::process::id() == 1,
        "ids": process::ids(),
        "capabilities": process::capabilities(),
        "no_new_privileges": process::status("NoNewPrivs"),
        "limits": process::limits(),
        "oom_score_adj": text(read("/proc/self/oom_score_adj")),
        "id_maps": each(&["uid_map", "gid_map"], |name| text(read(Path::new("/proc/self").join(name)))),
        "namespaces": process::namespaces(),
        "cgroup": process::cgroup(),
        "interfaces": process::interfaces(),
        "sysctl": each(&["kernel/msgmax", "net/core/somaxconn"], |name| {
            text(read(Path::new("/proc/sys").join(name)))
        }),
        "mounts": mounts::all(),
        "devices": files::devices(),
        "written": each(&["/", "/room", "/kept"], files::write),
        "seen": each(&["/hidden", "/hidden-file", "/made", "/kept-group/cgroup.type"], files::see),
    });
    println!("{report}");
    while std::env::args().nth(1).as_deref() == Some(STAY) {
        std::thread::park();
    }
}

/// A value for each of some names.
fn each<T: Into<Value>>(names: &[&str], value: impl Fn(&str) -> T) -> Value {
    names.iter().map(|&name| (name.to_owned(), value(name).into())).collect::<Map<_, _>>().into()
}

/// With blanks where there are any number of them, and without those at the ends.
fn read(path: impl AsRef<Path>) -> io::Result<String> {
    Ok(fs::read_to_string(path)?.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// The text, or why there is none.
fn text(read: io::Result<String>) -> String {
    read.unwrap_or_else(|error| reason(&error))
}

/// As the C library says it: `Operation not permitted`.
fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}
