//! TLS in front of a unix socket, for clients that have a certificate.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tempfile::TempDir;
use tokio::net::{TcpListener, UnixStream};
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;

use super::run;

/// The name in the server's certificate.
const NAME: &str = "builder.test";

/// Serves as long as it lives.
#[derive(Debug)]
pub struct TlsFront {
    pub port: u16,
    directory: TempDir,
    _runtime: Runtime,
}

impl TlsFront {
    /// What arrives goes on to `socket`.
    pub fn of(socket: PathBuf) -> Self {
        let directory = tempfile::tempdir().expect("a directory for certificates");
        let path = |name: &str| directory.path().join(name);
        certificate(directory.path(), "ca", &["-addext", "basicConstraints=critical,CA:TRUE"]);
        for (name, alternative) in [("cert", "client.test"), ("server", NAME)] {
            let names = format!("subjectAltName=DNS:{alternative}");
            let signed =
                ["-CA", "ca.pem", "-CAkey", "ca.key", "-addext", "basicConstraints=critical,CA:FALSE"];
            certificate(directory.path(), name, &[&signed[..], &["-addext", &names]].concat());
        }
        let read =
            |name: &str| CertificateDer::from_pem_file(path(name)).expect("openssl writes certificates");
        let mut roots = RootCertStore::empty();
        roots.add(read("ca.pem")).expect("the authority is trusted");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
        let clients = clients.build().expect("clients are verified");
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider has TLS 1.3")
            .with_client_cert_verifier(clients)
            .with_single_cert(
                vec![read("server.pem")],
                PrivateKeyDer::from_pem_file(path("server.key")).expect("openssl writes keys"),
            )
            .expect("the certificate has its key");
        config.alpn_protocols = vec![b"h2".to_vec()];

        let runtime = Runtime::new().expect("a runtime");
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).expect("a free port");
        let port = listener.local_addr().expect("a port").port();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, socket) = (acceptor.clone(), socket.clone());
                tokio::spawn(async move {
                    let Ok(mut near) = acceptor.accept(stream).await else { return };
                    let Ok(mut far) = UnixStream::connect(&socket).await else { return };
                    let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                });
            }
        });
        Self { port, directory, _runtime: runtime }
    }

    /// What `--driver-opt` says of it: `cacert=..,servername=..`, and the client's own certificate.
    pub fn options(&self, with_certificate: bool) -> String {
        let path = |name: &str| self.directory.path().join(name).display().to_string();
        let own = format!(",cert={},key={}", path("cert.pem"), path("cert.key"));
        format!("cacert={},servername={NAME}{}", path("ca.pem"), if with_certificate { &own } else { "" })
    }
}

/// A certificate and its key.
pub(super) fn certificate(directory: &Path, name: &str, how: &[&str]) {
    let (key, certificate) = (format!("{name}.key"), format!("{name}.pem"));
    let mut openssl = Command::new("openssl");
    openssl.current_dir(directory).args([
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
    ]);
    openssl.args([
        "-nodes",
        "-days",
        "30",
        "-subj",
        &format!("/CN={name}"),
        "-keyout",
        &key,
        "-out",
        &certificate,
    ]);
    run(openssl.args(how)).ok();
}
