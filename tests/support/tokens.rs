//! A registry that wants tokens, and who gives them (distribution's "Token Authentication Specification"): to `user`, with the
//! password `secret`, for whatever is asked for.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::front::{Act, Front, Request};
use super::tls::certificate;
use super::{Registry, run};

const ISSUER: &str = "tests";
const SERVICE: &str = "registry.test";
/// `user:secret`
const LOGIN: &str = "Authorization: Basic dXNlcjpzZWNyZXQ=";

/// Both are at one port, since a builder in a machine reaches only the ports that were named.
#[derive(Debug)]
pub struct WithTokens {
    pub registry: Registry,
    port: u16,
}

impl WithTokens {
    pub fn start() -> Self {
        let keys = tempfile::tempdir().expect("a directory for a key");
        certificate(keys.path(), "token", &[]);
        let front = Front::open();
        let port = front.port;
        let registry = Registry::start(&format!(
            "auth: {{ token: {{ realm: \"http://127.0.0.1:{port}/token\", service: {SERVICE}, issuer: {ISSUER}, \
             rootcertbundle: {} }} }}\n",
            keys.path().join("token.pem").display()
        ));
        front.pass_to(registry.port, move |request| answer(request, &keys));
        Self { registry, port }
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        format!("{}:{}", Ipv4Addr::LOCALHOST, self.port)
    }

    pub fn image(&self, name: &str) -> String {
        format!("{}/{name}", self.address())
    }
}

fn answer(request: &Request, keys: &TempDir) -> Act {
    if !request.path().starts_with("/token") {
        return Act::Pass;
    }
    // What is asked as OAuth 2 has it, in the body of a POST, is not known here.
    if request.method() != "GET" || !request.has(LOGIN) {
        return Act::Answer("401 Unauthorized", String::new());
    }
    Act::Answer("200 OK", json!({"token": token(keys.path(), &asked(request.path()))}).to_string())
}

/// The scopes that are asked for: `repository:NAME:pull,push`.
fn asked(path: &str) -> Vec<Value> {
    // Several may be in one, with blanks between them.
    let scopes =
        path.split(['?', '&']).filter_map(|pair| pair.strip_prefix("scope=")).flat_map(|all| all.split('+'));
    let access = scopes.filter_map(|scope| {
        let scope = scope.replace("%3A", ":").replace("%2C", ",").replace("%2F", "/");
        let [kind, name, actions] = scope.split(':').collect::<Vec<_>>().try_into().ok()?;
        Some(json!({"type": kind, "name": name, "actions": actions.split(',').collect::<Vec<_>>()}))
    });
    access.collect()
}

/// A JSON Web Token (RFC 7519), signed with ECDSA.
fn token(keys: &Path, access: &[Value]) -> String {
    let certificate = fs::read_to_string(keys.join("token.pem")).expect("there is a certificate");
    let lines = certificate.lines().filter(|line| !line.starts_with('-'));
    let head = json!({"typ": "JWT", "alg": "ES256", "x5c": [lines.collect::<String>()]});
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("it is after 1970");
    let (from, to) = (now - Duration::from_secs(60), now + Duration::from_secs(600));
    let claims = json!({
        "iss": ISSUER, "sub": "user", "aud": SERVICE, "jti": "1", "access": access,
        "nbf": from.as_secs(), "iat": from.as_secs(), "exp": to.as_secs(),
    });
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let text = format!("{}.{}", part(&head), part(&claims));
    let file = tempfile::NamedTempFile::new().expect("a file for what is signed");
    fs::write(file.path(), &text).expect("it is written");
    let mut openssl = Command::new("openssl");
    openssl.current_dir(keys).args(["dgst", "-sha256", "-sign", "token.key", "-out"]);
    let signature = file.path().with_extension("sig");
    run(openssl.arg(&signature).arg(file.path())).ok();
    let signed = fs::read(&signature).expect("openssl has signed it");
    fs::remove_file(signature).expect("the signature is removed");
    format!("{text}.{}", URL_SAFE_NO_PAD.encode(raw(&signed)))
}

/// The two numbers of a signature, of 32 bytes each (RFC 7518, 3.4), out of ASN.1's sequence of two integers.
fn raw(signature: &[u8]) -> Vec<u8> {
    let first = usize::from(signature[3]);
    let (r, s) = (&signature[4..4 + first], &signature[6 + first..]);
    let number = |bytes: &[u8]| {
        let bytes = if bytes.len() > 32 { &bytes[1..] } else { bytes };
        [&vec![0; 32 - bytes.len()], bytes].concat()
    };
    [number(r), number(s)].concat()
}
