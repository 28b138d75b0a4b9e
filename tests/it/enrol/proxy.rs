//! The page behind a real nginx, by the configuration that is shipped: links are in none of its logs.

use std::process::{Child, Command};
use std::time::Duration;

use super::{Browser, Office, code};

/// It ends with the test.
struct Nginx(Child);

impl Drop for Nginx {
    fn drop(&mut self) {
        let _killed = self.0.kill();
        let _ended = self.0.wait();
    }
}

/// The shipped server, without TLS, in front of an office; its port.
fn in_front_of(office: &Office) -> (Nginx, u16) {
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/config/nginx.conf");
    let shipped = std::fs::read_to_string(shipped).expect("the configuration");
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("a port")
        .port();
    let ours = shipped.replace("127.0.0.1:8420", &format!("127.0.0.1:{}", office.port));
    let ours = ours.replace("listen 443 ssl", &format!("listen 127.0.0.1:{port}"));
    let plain = |line: &&str| !line.contains("ssl_certificate") && !line.contains("[::]:443");
    let ours: Vec<&str> = ours.lines().filter(plain).collect();
    assert!(!ours.join("\n").contains("ssl;"), "{ours:?}");
    let folder = office.folder.path().display();
    let whole = format!(
        "user root; daemon off; master_process off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/nginx-error.log info;
         events {{}}
         http {{ access_log {folder}/nginx-access.log; client_body_temp_path {folder}/nginx-body; proxy_temp_path {folder}/nginx-proxy;
                 fastcgi_temp_path {folder}/nginx-f; uwsgi_temp_path {folder}/nginx-u; scgi_temp_path {folder}/nginx-s;\n{}\n}}",
        ours.join("\n")
    );
    let path = office.path("nginx.conf");
    std::fs::write(&path, whole).expect("a file");
    let log = std::fs::File::create(office.path("nginx.out")).expect("a log");
    let child = Command::new("nginx")
        .args(["-p", &folder.to_string(), "-c"])
        .arg(&path)
        .stderr(log)
        .spawn()
        .expect("nginx is installed");
    let nginx = Nginx(child);
    for _ in 0..200 {
        if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return (nginx, port);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let said = std::fs::read_to_string(office.path("nginx.out")).unwrap_or_default();
    panic!("nginx does not start: {said}");
}

#[test]
fn trap_80_no_link_is_in_the_log_of_a_proxy() {
    let office = Office::new();
    let file = office.path("realmsync.toml");
    let text = std::fs::read_to_string(&file).expect("the configuration");
    let behind = text.replace("[http]\n", "[http]\nbehind-proxy = true\n");
    std::fs::write(&file, behind).expect("the configuration");
    let daemon = office.daemon();
    office.with_jan();
    let (_nginx, port) = in_front_of(&office);
    let path = office.sent(&[]);
    let freeze = format!("/freeze/{}", "B".repeat(43));
    // Whoever says they come from elsewhere does not.
    let mut browser = Browser::with(&[("x-forwarded-for", "203.0.113.9")]);
    assert_eq!(browser.get(port, &path).status, 200);
    assert_eq!(browser.get(port, &freeze).status, 410);
    assert_eq!(browser.get(port, "/healthz").status, 200);
    let key = browser.post(port, &path, &[("step", "begin")]).key();
    let form = [("step", "use"), ("code", &code(&key, 0))];
    assert_eq!(browser.post(port, &path, &form).codes().len(), 10);
    drop(daemon);
    assert_eq!(browser.get(port, &path).status, 502, "nobody is behind it");
    assert_eq!(browser.get(port, "/healthz").status, 502);

    let read = |name: &str| std::fs::read_to_string(office.path(name)).expect("a log");
    let logs = read("nginx-access.log") + &read("nginx-error.log");
    assert!(logs.contains("/healthz"), "it logs: {logs}");
    let tokens = [&path, &freeze].map(|path| path.rsplit('/').next().expect("a token").to_owned());
    for token in tokens {
        assert!(!logs.contains(&token), "{logs}");
    }
    let audit = office.run(&["--json", "audit"]).out;
    assert!(audit.contains("127.0.0.1") && !audit.contains("203.0.113.9"));
}
