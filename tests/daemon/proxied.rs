//! Behind a load balancer that others wrote: HAProxy says who the client is.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use lab::{Ask, Daemon, Process, Reply, Scratch, tcp};

use crate::site::{Site, need_servers};

#[test]
fn behind_a_trusted_proxy_the_client_it_names_is_asked_for_permission() -> Result<()> {
    need_servers!();
    let site = Site::new()?;
    let mut file = site.file(&[]);
    file.kernel = "mode = \"off\"".to_owned();
    file.server = "proxy-protocol-from = [\"10.53.1.0/24\"]".to_owned();
    // The balancer itself may not ask; those it speaks for may.
    let text = file.with_local("192.0.2.1").text();
    let text = text.replace("\"10.53.0.0/16\", \"fd53::/16\", \"127.0.0.0/8\"", "\"127.0.0.0/8\"");
    let daemon = Daemon::start(&site.server, &text)?;
    let scratch = Scratch::new("haproxy")?;
    let config = format!(
        "global\n    stats timeout 5s\ndefaults\n    mode tcp\n    timeout connect 3s\n    \
         timeout client 5s\n    timeout server 5s\n\
         listen trusted\n    bind 127.0.0.1:5301\n    server one {at} send-proxy-v2\n\
         listen silent\n    bind 127.0.0.1:5302\n    server one {at}\n",
        at = site.at()
    );
    let config = scratch.write("haproxy.cfg", &config)?;
    let program = lab::find("haproxy").context("the test needs `haproxy`")?;
    let mut command = site.client.command(program);
    command.arg("-db").arg("-f").arg(&config);
    let mut balancer = Process::start("haproxy", command, &scratch.path().join("log"))?;
    let ask = |port: u16, name: &str| -> Result<Reply> {
        let at: SocketAddr = ([127, 0, 0, 1], port).into();
        let bytes = Ask::new(name, "A").bytes();
        Reply::parse(&site.client.enter(|| tcp(at, &bytes, Duration::from_secs(3)))??)
    };
    balancer.ready("HAProxy passes a query on", || ask(5_301, "www.local.test.").is_ok())?;
    let reply = ask(5_301, "www.local.test.")?;
    assert_eq!((reply.rcode(), reply.answer.len()), (0, 1), "{}", daemon.log());
    // Who is to send the header and does not is not heard at all.
    assert!(ask(5_302, "www.local.test.").is_err());
    // Over UDP there is no header: the address is the balancer's own, which may not ask.
    let direct = site.ask(&Ask::new("www.local.test.", "A"))?;
    assert_eq!((direct.rcode(), direct.answer.len()), (5, 0));
    Ok(())
}
