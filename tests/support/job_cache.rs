//! The cache that GitHub's jobs have, by the first version of its protocol, as BuildKit speaks it (actions/toolkit, packages/cache).

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

const API: &str = "/_apis/artifactcache/cache";
const DOWNLOADS: &str = "/download/";

/// Serves until the test program ends.
#[derive(Debug)]
pub struct JobCache {
    pub port: u16,
    entries: Arc<Mutex<Vec<Entry>>>,
}

/// Its place is its number.
#[derive(Debug, Default)]
struct Entry {
    key: String,
    content: Vec<u8>,
    is_whole: bool,
}

#[derive(Debug, Default)]
struct Request {
    method: String,
    path: String,
    headers: HashMap<String, String>,
    body: Vec<u8>,
}

impl JobCache {
    pub fn open() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let port = listener.local_addr().expect("the port has a number").port();
        let entries = Arc::<Mutex<Vec<Entry>>>::default();
        let shared = Arc::clone(&entries);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let entries = Arc::clone(&shared);
                thread::spawn(move || drop(serve(&stream, &entries, port)));
            }
        });
        Self { port, entries }
    }

    /// What GitHub gives a job.
    pub fn environment(&self) -> [(&'static str, String); 2] {
        let encoded = |part: Value| URL_SAFE_NO_PAD.encode(part.to_string());
        let scopes = json!([{"Scope": "refs/heads/main", "Permission": 3}]).to_string();
        let claims = json!({"ac": scopes, "nbf": 0, "exp": u32::MAX});
        let token = format!("{}.{}.eA", encoded(json!({"alg": "HS256", "typ": "JWT"})), encoded(claims));
        let url = format!("http://{}:{}/", Ipv4Addr::LOCALHOST, self.port);
        [("ACTIONS_CACHE_URL", url), ("ACTIONS_RUNTIME_TOKEN", token)]
    }

    /// The keys of what is whole.
    pub fn keys(&self) -> Vec<String> {
        let entries = self.entries.lock().unwrap();
        entries.iter().filter(|entry| entry.is_whole).map(|entry| entry.key.clone()).collect()
    }
}

/// One request: the connection is closed behind its answer.
fn serve(stream: &TcpStream, entries: &Mutex<Vec<Entry>>, port: u16) -> std::io::Result<()> {
    let request = Request::read(&mut BufReader::new(stream))?;
    let (status, body) = answer(&request, &mut entries.lock().unwrap(), port);
    let range = match request.headers.get("range").and_then(|range| range.strip_prefix("bytes=")) {
        Some(range) if status == "206 Partial Content" => format!("Content-Range: bytes {range}*/*\r\n"),
        _ => String::new(),
    };
    let mut stream = stream;
    write!(
        stream,
        "HTTP/1.1 {status}\r\n{range}Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    )?;
    stream.write_all(&body)
}

fn answer(request: &Request, entries: &mut Vec<Entry>, port: u16) -> (&'static str, Vec<u8>) {
    let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
    let body = || serde_json::from_slice::<Value>(&request.body).unwrap_or_default();
    let text = |value: Value| value.to_string().into_bytes();
    let number = path.rsplit('/').next().and_then(|number| number.parse::<usize>().ok());
    let entry = number.and_then(|number| entries.get_mut(number.wrapping_sub(1)));
    match (request.method.as_str(), entry) {
        ("GET", Some(entry)) if path.starts_with(DOWNLOADS) => {
            let from = request.headers.get("range").and_then(|range| range.strip_prefix("bytes="));
            let from = from.and_then(|range| range.trim_end_matches('-').parse::<usize>().ok());
            let status = if from.is_some() { "206 Partial Content" } else { "200 OK" };
            (status, entry.content.get(from.unwrap_or(0)..).unwrap_or_default().to_vec())
        }
        ("PATCH", Some(entry)) => {
            let range = request.headers.get("content-range").and_then(|range| range.strip_prefix("bytes "));
            let from = range.and_then(|range| range.split('-').next()?.parse::<usize>().ok()).unwrap_or(0);
            let end = from + request.body.len();
            entry.content.resize(entry.content.len().max(end), 0);
            entry.content[from..end].copy_from_slice(&request.body);
            ("204 No Content", Vec::new())
        }
        ("POST", Some(entry)) => {
            entry.is_whole = body()["size"].as_u64() == Some(entry.content.len() as u64);
            ("204 No Content", Vec::new())
        }
        ("POST", None) => {
            let key = body()["key"].as_str().unwrap_or_default().to_owned();
            if entries.iter().any(|entry| entry.key == key) {
                return ("409 Conflict", text(json!({"typeKey": "ArtifactCacheItemAlreadyExistsException"})));
            }
            entries.push(Entry { key, ..Entry::default() });
            ("201 Created", text(json!({"cacheId": entries.len()})))
        }
        // The newest of what begins with the first key that something begins with.
        ("GET", None) if path == API => {
            let keys = query.split('&').find_map(|pair| pair.strip_prefix("keys=")).unwrap_or_default();
            let keys = decoded(keys);
            let newest = |key: &str| {
                let is_meant = |entry: &Entry| entry.is_whole && entry.key.starts_with(key);
                entries.iter().rposition(is_meant).map(|place| (place + 1, &entries[place]))
            };
            let Some((number, entry)) = keys.split(',').find_map(newest) else {
                return ("204 No Content", Vec::new());
            };
            let place = format!("http://{}:{port}{DOWNLOADS}{number}", Ipv4Addr::LOCALHOST);
            ("200 OK", text(json!({"cacheKey": entry.key, "scope": "main", "archiveLocation": place})))
        }
        _ => ("404 Not Found", Vec::new()),
    }
}

/// `%3A` is a colon.
fn decoded(text: &str) -> String {
    let mut parts = text.split('%');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |done, part| {
        let (code, rest) = part.split_at(part.len().min(2));
        done + &u8::from_str_radix(code, 16).map_or('%', char::from).to_string() + rest
    })
}

impl Request {
    fn read(reader: &mut impl BufRead) -> std::io::Result<Self> {
        let line = |reader: &mut dyn BufRead| -> std::io::Result<String> {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            Ok(line.trim_end().to_owned())
        };
        let first = line(reader)?;
        let mut words = first.split(' ').map(str::to_owned);
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let mut request = Self { method, path, ..Self::default() };
        while let Some((name, value)) = line(reader)?.split_once(": ") {
            request.headers.insert(name.to_ascii_lowercase(), value.to_owned());
        }
        let mut take = |reader: &mut dyn BufRead, length: u64| -> std::io::Result<()> {
            let read = reader.take(length).read_to_end(&mut request.body)?;
            if read as u64 == length { Ok(()) } else { Err(std::io::ErrorKind::UnexpectedEof.into()) }
        };
        if request.headers.contains_key("transfer-encoding") {
            // In pieces, each behind its length.
            loop {
                let length = u64::from_str_radix(&line(reader)?, 16).map_err(std::io::Error::other)?;
                take(reader, length)?;
                line(reader)?;
                if length == 0 {
                    return Ok(request);
                }
            }
        }
        let length = request.headers.get("content-length").and_then(|length| length.parse().ok());
        take(reader, length.unwrap_or(0))?;
        Ok(request)
    }
}
