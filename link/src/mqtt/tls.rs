//! TLS of a broker connection: rustls with ring, and nothing older than TLS 1.2.

use super::{MqttError, MqttOptions};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem};
use rustls::{ClientConfig, RootCertStore};
use std::path::Path;
use std::sync::Arc;

/// Reads the files of the options. Done for every connection, so that renewed
/// certificates are used without a restart.
pub(super) fn configuration(options: &MqttOptions) -> Result<Arc<ClientConfig>, MqttError> {
    let roots = match &options.ca_file {
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|source| MqttError::Tls { path: path.clone(), source })?;
            }
            roots
        }
        None => system_roots()?,
    };
    // The provider is named here and not installed for the process: a library that did so
    // would decide for every other one.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|source| MqttError::Provider { source })?
        .with_root_certificates(roots);
    let configuration = match (&options.cert_file, &options.key_file) {
        (None, None) => builder.with_no_client_auth(),
        (Some(cert_file), Some(key_file)) => {
            let key = PrivateKeyDer::from_pem_file(key_file).map_err(|error| unreadable(key_file, &error))?;
            builder
                .with_client_auth_cert(certificates(cert_file)?, key)
                .map_err(|source| MqttError::Tls { path: cert_file.clone(), source })?
        }
        _ => return Err(MqttError::HalfIdentity),
    };
    Ok(Arc::new(configuration))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, MqttError> {
    let certificates = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| unreadable(path, &error))?;
    if certificates.is_empty() {
        return Err(unreadable(path, &pem::Error::NoItemsFound));
    }
    Ok(certificates)
}

fn system_roots() -> Result<RootCertStore, MqttError> {
    let mut roots = RootCertStore::empty();
    // Some systems carry a few that cannot be read; the others do.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() { Err(MqttError::NoRoots) } else { Ok(roots) }
}

fn unreadable(path: &Path, error: &pem::Error) -> MqttError {
    MqttError::Pem { path: path.to_owned(), why: error.to_string() }
}
