//! The side of the process that comes.

use std::io;
use std::net::TcpListener;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;

use loadx_core::config::{Config, HostPort};
use loadx_proxy::{Inherited, InheritedFor, InheritedSocket};

use super::channel::Channel;
use super::link::FormerLink;
use super::{Answer, Hello, LET_GO_MAX, LetGo, Offer, OfferedConfig, PROTOCOL, START_MAX, Settled, VARIABLE};
use crate::config_file;
use crate::trouble::Trouble;

/// The LoadX whose work this process takes over.
#[derive(Debug)]
pub(crate) struct Former {
    channel: Channel,
    pub(crate) offer: Offer,
    sockets: Vec<InheritedSocket>,
    admin_sockets: Vec<TcpListener>,
}

impl Former {
    /// The former LoadX, if this process was started by one.
    ///
    /// # Errors
    /// When the former LoadX ends, or offers what this one does not understand.
    pub(crate) fn from_environment() -> Result<Option<Self>, Trouble> {
        if std::env::var_os(VARIABLE).is_none() {
            return Ok(None);
        }
        Self::receive().map(Some).map_err(|error| {
            Trouble::Input(format!(
                "cannot take over from the former LoadX: {error}\n  help: the variable {VARIABLE} is for upgrades only; unset it to start a LoadX"
            ))
        })
    }

    fn receive() -> io::Result<Self> {
        let stdin = io::stdin();
        let mut channel = Channel::new(UnixStream::from(stdin.as_fd().try_clone_to_owned()?));
        channel.limit(START_MAX)?;
        // Nothing else shall read from the connection.
        rustix::stdio::dup2_stdin(std::fs::File::open("/dev/null")?)?;
        channel.send(&Hello { protocol: PROTOCOL, version: env!("CARGO_PKG_VERSION").to_owned() })?;
        let offer: Offer = channel.receive()?;
        let mut descriptors = channel.receive_descriptors(offer.sockets.len() + offer.admin_sockets)?.into_iter();
        let of_listeners = offer.sockets.iter().zip(&mut descriptors).map(|((host, port), socket)| InheritedSocket {
            listener: InheritedFor::Address(HostPort { host: host.clone(), port: *port }),
            socket: socket.into(),
        });
        let sockets = of_listeners.collect();
        let admin_sockets = descriptors.map(TcpListener::from).collect();
        Ok(Former { channel, offer, sockets, admin_sockets })
    }

    /// The config that runs; `None` when options of the command line are the config.
    ///
    /// # Errors
    /// When this version of LoadX does not accept the config.
    pub(crate) fn config(&self) -> Result<Option<(Config, &OfferedConfig)>, Trouble> {
        let Some(offered) = &self.offer.config else { return Ok(None) };
        let name = offered.name.as_deref().unwrap_or("the config that runs");
        Ok(Some((config_file::parse(&offered.text, name)?, offered)))
    }

    /// What the proxy gets.
    pub(crate) fn inherited(&mut self) -> Inherited {
        Inherited { sockets: std::mem::take(&mut self.sockets), knowledge: Some(self.offer.knowledge.clone()) }
    }

    /// The sockets of the admin API over TCP.
    pub(crate) fn admin_sockets(&mut self) -> Vec<TcpListener> {
        std::mem::take(&mut self.admin_sockets)
    }

    /// Tells the former LoadX that this one serves, and waits until the former one lets go. Then `settle` takes the path of
    /// the admin socket. Returns the way to the former LoadX, unless it has ended.
    ///
    /// # Errors
    /// That of `settle`.
    pub(crate) fn take_over<T>(
        mut self,
        settle: impl FnOnce() -> Result<T, Trouble>,
    ) -> Result<(T, Option<FormerLink>), Trouble> {
        // A former LoadX that ended meanwhile needs no word; this one serves.
        let _ = self.channel.send(&Answer::Serving);
        let _ = self.channel.limit(LET_GO_MAX);
        let is_there = self.channel.receive::<LetGo>().is_ok();
        let settled = settle()?;
        let is_there = is_there && self.channel.send(&Settled).is_ok();
        Ok((settled, is_there.then(|| FormerLink::new(self.channel).ok()).flatten()))
    }

    /// Tells the former LoadX why this one does not serve.
    pub(crate) fn fail(mut self, trouble: &Trouble) {
        let _ = self.channel.send(&Answer::Failed(trouble.to_string()));
    }
}
