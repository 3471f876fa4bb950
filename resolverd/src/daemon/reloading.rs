//! The file is read again, and taken up all or nothing.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tracing::{error, info};

use super::anchors::configured;
use super::{
    HOSTS_FILES, Joined, RFC5011, RPZ, certificate, feeds, files, host_name, level, listening,
};
use super::{meaning, roots};
use crate::cache::Scope;
use crate::clock::wall_now;
use crate::config::{Config, ConfigError, reload};
use crate::control::notify;
use crate::log;
use crate::metrics::ReloadResult;

impl Joined {
    /// Reads the file again and takes it up, all or nothing.
    pub(super) async fn reload(&self) -> Result<reload::Changes, ConfigError> {
        let _alone = self.changing.lock().await;
        notify::reloading();
        // Whatever becomes of the configuration: its file was moved away.
        self.tap.reopen();
        // Large files are read: what else this thread of the runtime had to do is for others.
        let done = tokio::task::block_in_place(|| {
            Config::load(self.file.as_deref()).and_then(|config| self.take_up(config))
        });
        let result = match &done {
            Ok(changes) if changes.is_empty() => {
                info!("configuration read again: nothing changed");
                ReloadResult::Unchanged
            }
            Ok(changes) => {
                info!(
                    applied = %changes.applied.join(" "),
                    needs_restart = %changes.needs_restart.join(" "),
                    "configuration read again"
                );
                ReloadResult::Applied
            }
            Err(error) => {
                error!(%error, "configuration refused: the old one goes on");
                ReloadResult::Refused
            }
        };
        self.metrics.config_reloads(result).inc();
        notify::ready("serving");
        done
    }

    fn take_up(&self, config: Config) -> Result<reload::Changes, ConfigError> {
        let old = self.config.load_full();
        let mut changes = reload::changes(&old, &config);
        // All that can be refused first.
        let certificate = certificate::load(&config)?;
        // Another one may be in the same file.
        let renewed = *self.certificate.lock() != certificate;
        if renewed && !changes.applied.contains(&"server.tls-cert") {
            changes.applied.push("server.tls-cert");
        }
        let files = files::read(&config)?;
        let policy = meaning::policy(&config, &files)?;
        meaning::root_hints(&config)?;
        configured::policy(&config)?;
        roots::look(&config)?;
        if files.digest != self.files_digest.swap(files.digest, Ordering::Relaxed)
            && !changes.applied.contains(&HOSTS_FILES)
        {
            changes.applied.push(HOSTS_FILES);
        }
        let old_feeds = Arc::clone(&*self.feeds.lock());
        let mut feeds = feeds::load(
            &config,
            &policy,
            Some(&old_feeds),
            feeds::shelf(&config).as_ref(),
            &self.metrics,
        )?;
        let (rpz, content) = feeds.rpz();
        let old_content = old_feeds.rpz().1;
        if content != old_content && !changes.applied.contains(&RPZ) {
            changes.applied.push(RPZ);
        }
        let anchors_read = self.anchors.read(&config, &self.metrics);
        if anchors_read && !changes.applied.contains(&RFC5011) {
            // Its state was put back.
            changes.applied.push(RFC5011);
        }
        if changes.is_empty() {
            *self.loaded_at.lock() = wall_now();
            return Ok(changes);
        }
        let snapshot = self.snapshot.borrow().clone();
        let listening = listening(&config, &snapshot);
        let listen = listening.plain.clone();
        // Before the doors at which it is shown.
        self.server.present(certificate.as_ref());
        if let Err(error) = self.server.relisten(listening) {
            self.server.present(self.certificate.lock().as_ref());
            let problem = config.problem(Default::default(), error.to_string());
            return Err(ConfigError::refused(vec![problem]));
        }
        self.server.believe(config.server.proxy_protocol_from.clone());
        certificate::note(&config, certificate.as_ref(), &self.metrics);
        *self.certificate.lock() = certificate;
        // The epoch is raised before the new policy answers its first query.
        let told = self.tell_kernel(&config, &policy, (&rpz, content), listen.clone());
        self.end_lease_untold(told);
        self.pipeline.set_cookies(self.drawn.lock().hold(&config.cookies));
        feeds.start(&self.feeds_changed);
        let feeds = Arc::new(feeds);
        self.pipeline.take_feeds(Arc::clone(&feeds));
        *self.feeds.lock() = feeds;
        let same = policy.digest == self.pipeline.policy().digest && content == old_content;
        self.pipeline.reconfigure(policy);
        if same {
            self.pipeline.keep_rpz(Arc::new(rpz));
        } else {
            self.pipeline.take_rpz(Arc::new(rpz));
        }
        self.pipeline.cache().reconfigure(meaning::cache(&config));
        self.resolver.reconfigure(self.resolver_settings(&config, &listen));
        if old.dnssec != config.dnssec || anchors_read {
            // What was secure may not be any more, and what was bogus may be meant.
            self.pipeline.flush(&Scope::All);
        }
        self.resolver.look_for_loops();
        log::set_client_prefix(meaning::client_prefix(&config));
        self.tap.reconfigure(meaning::tap(&config, &host_name()));
        self.log.set_level(level(&config));
        self.config.store(Arc::new(config));
        *self.loaded_at.lock() = wall_now();
        Ok(changes)
    }
}
