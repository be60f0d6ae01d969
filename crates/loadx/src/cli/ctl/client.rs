//! Requests to the admin API of a running LoadX.

use std::path::PathBuf;
use std::time::Duration;

use axum::http::{Method, Request, StatusCode, header};
use clap::Args;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::runtime::{Builder, Runtime};

use crate::admin::api::{ConfigToCheck, Planned, Refusal};
use crate::admin::socket;
use crate::trouble::Trouble;

/// The longest time for a response. Applying a config may resolve names, for 3 s at most.
const RESPONSE_MAX: Duration = Duration::from_secs(60);

/// The variable of the environment with the token, unless `--token-file` names a file.
const TOKEN_VARIABLE: &str = "LOADX_ADMIN_TOKEN";

/// Where the LoadX is.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Where {
    /// The Unix socket of the LoadX [default: the socket of the only LoadX that runs here]
    #[arg(long, value_name = "PATH", global = true)]
    socket: Option<PathBuf>,
    /// The address of the admin API over TCP, in place of the socket: http://HOST:PORT
    #[arg(long, value_name = "URL", global = true, conflicts_with = "socket")]
    url: Option<String>,
    /// The file with the token for --url [default: the variable LOADX_ADMIN_TOKEN]
    #[arg(long, value_name = "FILE", global = true)]
    token_file: Option<PathBuf>,
}

impl Where {
    /// Whether an option names the LoadX.
    pub(crate) fn is_named(&self) -> bool {
        self.socket.is_some() || self.url.is_some()
    }
}

/// The way to a LoadX.
pub(crate) struct Client {
    runtime: Runtime,
    place: Place,
    token: Option<String>,
}

#[derive(Clone, Debug)]
enum Place {
    Socket(PathBuf),
    /// Host and port.
    Tcp(String),
}

/// What the LoadX answered.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) status: StatusCode,
    pub(crate) refusal: Refusal,
}

impl From<Refused> for Trouble {
    fn from(refused: Refused) -> Self {
        let error = refused.refusal.error;
        match refused.status {
            StatusCode::UNPROCESSABLE_ENTITY
            | StatusCode::NOT_FOUND
            | StatusCode::BAD_REQUEST
            | StatusCode::UNAUTHORIZED => Trouble::Input(error),
            _ => Trouble::Failure(error),
        }
    }
}

/// The answer of a LoadX, or why there is none.
type Answer<T> = Result<Result<T, Refused>, Trouble>;

impl Client {
    /// Finds the LoadX.
    ///
    /// # Errors
    /// When no LoadX or several run here and no option names one.
    pub(crate) fn new(place: &Where) -> Result<Self, Trouble> {
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Trouble::Failure(format!("cannot start: {error}")))?;
        let (place, token) = match (&place.url, &place.socket) {
            (Some(url), _) => (Place::Tcp(authority(url)?), Some(token(place.token_file.as_deref())?)),
            (None, Some(path)) => (Place::Socket(path.clone()), None),
            (None, None) => (Place::Socket(the_only_socket()?), None),
        };
        Ok(Client { runtime, place, token })
    }

    /// Sends a request without content.
    pub(crate) fn ask<T: DeserializeOwned>(&self, method: Method, path: &str) -> Result<T, Trouble> {
        Ok(self.try_ask(method, path, Bytes::new())??)
    }

    /// Sends a request with content.
    pub(crate) fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        content: &impl Serialize,
    ) -> Result<T, Trouble> {
        let content = serde_json::to_vec(content).map_err(|error| Trouble::Failure(error.to_string()))?;
        Ok(self.try_ask(method, path, content.into())??)
    }

    /// What a config would change.
    pub(crate) fn plan(&self, text: String, name: String) -> Result<Planned, Trouble> {
        self.send(Method::POST, "/v1/config/plan", &ConfigToCheck { text, name })
    }

    fn try_ask<T: DeserializeOwned>(&self, method: Method, path: &str, content: Bytes) -> Answer<T> {
        let answer = self.runtime.block_on(async {
            tokio::time::timeout(RESPONSE_MAX, async {
                let response = self.exchange(method, path, content).await?;
                let (parts, body) = response.into_parts();
                let bytes = body.collect().await.map_err(|error| self.broken(&error))?.to_bytes();
                Ok::<_, Trouble>((parts.status, bytes))
            })
            .await
        });
        let (status, bytes) = answer.map_err(|_| self.silent())??;
        let odd = |error: serde_json::Error| {
            let begin = String::from_utf8_lossy(&bytes[..bytes.len().min(200)]).into_owned();
            Trouble::Failure(format!(
                "{} answered {status} with no message of the admin API ({error}): {begin}",
                self.name()
            ))
        };
        Ok(match status.is_success() {
            true => Ok(serde_json::from_slice(&bytes).map_err(odd)?),
            false => Err(Refused { status, refusal: serde_json::from_slice(&bytes).map_err(odd)? }),
        })
    }

    /// Calls `each` with each line of a response without end, until the response ends, `each` fails, or LoadX ends.
    pub(crate) fn follow(&self, path: &str, mut each: impl FnMut(&str) -> Result<(), Trouble>) -> Result<(), Trouble> {
        self.runtime.block_on(async {
            let mut body = self.exchange(Method::GET, path, Bytes::new()).await?.into_body();
            let mut text = Vec::new();
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(|error| self.broken(&error))?;
                text.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
                while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
                    let line: Vec<u8> = text.drain(..=end).collect();
                    each(String::from_utf8_lossy(&line).trim_end())?;
                }
            }
            Ok(())
        })
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        content: Bytes,
    ) -> Result<axum::http::Response<Incoming>, Trouble> {
        let unreachable = |error: std::io::Error| {
            Trouble::Failure(format!(
                "cannot reach LoadX at {}: {error}\n  help: does that LoadX run, and may this user reach it?",
                self.name()
            ))
        };
        match &self.place {
            Place::Socket(path_of_socket) => {
                let stream = UnixStream::connect(path_of_socket).await.map_err(unreachable)?;
                self.over(stream, method, path, content).await
            }
            Place::Tcp(authority) => {
                let stream = TcpStream::connect(authority).await.map_err(unreachable)?;
                self.over(stream, method, path, content).await
            }
        }
    }

    async fn over<S>(
        &self,
        stream: S,
        method: Method,
        path: &str,
        content: Bytes,
    ) -> Result<axum::http::Response<Incoming>, Trouble>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| self.broken(&error))?;
        tokio::spawn(connection);
        let host = match &self.place {
            Place::Socket(_) => "loadx",
            Place::Tcp(authority) => authority,
        };
        let mut request = Request::builder().method(method).uri(path).header(header::HOST, host);
        if !content.is_empty() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let request = request.body(Full::new(content)).map_err(|error| Trouble::Input(error.to_string()))?;
        sender.send_request(request).await.map_err(|error| self.broken(&error))
    }

    fn name(&self) -> String {
        match &self.place {
            Place::Socket(path) => path.display().to_string(),
            Place::Tcp(authority) => format!("http://{authority}"),
        }
    }

    fn broken(&self, error: &hyper::Error) -> Trouble {
        Trouble::Failure(format!("the connection to LoadX at {} broke: {error}", self.name()))
    }

    fn silent(&self) -> Trouble {
        Trouble::Failure(format!("LoadX at {} did not answer within {} s", self.name(), RESPONSE_MAX.as_secs()))
    }
}

/// A segment of a path.
pub(crate) fn segment(text: &str) -> String {
    const KEPT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b':');
    utf8_percent_encode(text, KEPT).to_string()
}

fn the_only_socket() -> Result<PathBuf, Trouble> {
    let (mut served, searched) = socket::find();
    match served.len() {
        1 => Ok(served.remove(0)),
        0 => {
            let searched: Vec<String> = searched.iter().map(|path| path.display().to_string()).collect();
            Err(Trouble::Failure(format!(
                "found no running LoadX in {}\n  help: name its socket with --socket PATH; LoadX logs the path at its start",
                searched.join(", ")
            )))
        }
        several => {
            let served: Vec<String> = served.iter().map(|path| path.display().to_string()).collect();
            Err(Trouble::Input(format!(
                "{several} LoadX run here\n  help: choose one with --socket: {}",
                served.join(", ")
            )))
        }
    }
}

fn authority(url: &str) -> Result<String, Trouble> {
    let authority = url.strip_prefix("http://").map(|rest| rest.trim_end_matches('/'));
    authority
        .filter(|rest| {
            rest.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()) && !rest.contains('/')
        })
        .map(str::to_owned)
        .ok_or_else(|| {
            Trouble::Input(format!("\"{url}\" is no address of an admin API\n  help: write http://HOST:PORT"))
        })
}

fn token(file: Option<&std::path::Path>) -> Result<String, Trouble> {
    let text = match file {
        Some(file) => std::fs::read_to_string(file)
            .map_err(|error| Trouble::Input(format!("cannot read the token from {}: {error}", file.display())))?,
        None => std::env::var(TOKEN_VARIABLE).map_err(|_| {
            Trouble::Input(format!(
                "the admin API over TCP needs a token\n  help: name a file with --token-file, or set {TOKEN_VARIABLE}"
            ))
        })?,
    };
    Ok(text.trim().to_owned())
}
