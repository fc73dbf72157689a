//! A mosquitto of a test's own.

use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Ends with the value.
pub struct Mosquitto {
    pub port: u16,
    directory: tempfile::TempDir,
    child: Option<Child>,
}

/// A port that nothing listened on a moment ago.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Whether a program can be started, by its plain name or from where Debian has daemons.
fn program(name: &str) -> Option<PathBuf> {
    let found = [PathBuf::from(name), PathBuf::from("/usr/sbin").join(name)].into_iter().find(|path| {
        Command::new(path).arg("--help").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
    });
    if found.is_none() {
        println!("skipped: {name} is not installed");
    }
    found
}

impl Mosquitto {
    /// `None`, and a line that says so, where there is no mosquitto.
    pub fn start() -> Option<Self> {
        program("mosquitto")?;
        Some(Self::with_settings(tempfile::tempdir().unwrap(), ""))
    }

    /// With certificates from a CA of its own, and only for clients that have one.
    pub fn start_with_tls() -> Option<Self> {
        program("mosquitto")?;
        program("openssl")?;
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(
            directory.path().join("extensions"),
            "subjectAltName=DNS:localhost,IP:127.0.0.1\nbasicConstraints=CA:FALSE\n",
        )
        .unwrap();
        for line in [
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=ca -keyout ca.key -out ca.pem",
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=other -keyout other.key -out other.pem",
            "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost -keyout server.key -out server.csr",
            "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=client -keyout client.key -out client.csr",
            "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile extensions -out server.pem",
            "x509 -req -in client.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile extensions -out client.pem",
        ] {
            let output =
                Command::new("openssl").args(line.split(' ')).current_dir(directory.path()).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        let path = directory.path().display();
        let settings = format!(
            "cafile {path}/ca.pem\ncertfile {path}/server.pem\nkeyfile {path}/server.key\nrequire_certificate true\n"
        );
        Some(Self::with_settings(directory, &settings))
    }

    fn with_settings(directory: tempfile::TempDir, settings: &str) -> Self {
        let port = free_port();
        // As root it would otherwise become a user who cannot read the directory.
        let user = if std::env::var("USER").is_ok_and(|user| user != "root") { "" } else { "user root\n" };
        let text = format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\nset_tcp_nodelay true\n{user}{settings}"
        );
        std::fs::write(directory.path().join("mosquitto.conf"), text).unwrap();
        let mut broker = Self { port, directory, child: None };
        broker.restart();
        broker
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Starts it, and waits until it listens.
    pub fn restart(&mut self) {
        let program = program("mosquitto").expect("it was there before");
        let log = std::fs::File::create(self.file("log")).unwrap();
        let child = Command::new(program)
            .arg("-c")
            .arg(self.file("mosquitto.conf"))
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
        let deadline = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let log = || std::fs::read_to_string(self.file("log")).unwrap_or_default();
            assert!(Instant::now() < deadline, "mosquitto does not listen: {}", log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// SIGKILL: it says goodbye to nobody.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    pub fn signal(&self, name: &str) {
        let pid = self.child.as_ref().expect("it runs").id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        self.kill();
    }
}
