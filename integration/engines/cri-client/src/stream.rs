//! The streams of `Exec` and `Attach` over a WebSocket: each message begins with the number of its channel
//! (Kubernetes' v4.channel.k8s.io).

use serde_json::{Value, json};
use std::error::Error;
use std::net::TcpStream;
use std::time::Duration;
use tungstenite::client::IntoClientRequest;
use tungstenite::{Bytes, Message};

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
/// The outcome, as a Kubernetes `Status` in JSON.
const ERROR: u8 = 3;
const RESIZE: u8 = 4;

/// What is sent: each piece once the output contains the words that it waits for.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Script {
    url: String,
    /// The terminal's columns and rows, sent first.
    size: Option<(u16, u16)>,
    #[serde(default)]
    say: Vec<Line>,
    /// Closes the connection when the output contains this, instead of waiting for the end.
    leave_at: Option<String>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    after: String,
    input: String,
}

/// Plays the script until the server closes; both outputs and the outcome.
///
/// # Errors
/// The connection's, or nothing heard for half a minute.
pub fn play(script: &Script) -> Result<Value, Box<dyn Error>> {
    let mut request = script.url.as_str().into_client_request()?;
    // The server gives http URLs; the address is the same.
    let address = request.uri().authority().ok_or("a URL without an address")?.to_string();
    *request.uri_mut() = script.url.replacen("http://", "ws://", 1).parse()?;
    request.headers_mut().insert("sec-websocket-protocol", "v4.channel.k8s.io".parse()?);
    let stream = TcpStream::connect(&address)?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    let (mut socket, _) = tungstenite::client(request, stream)?;
    let mut outputs = [Vec::new(), Vec::new(), Vec::new(), Vec::new()];
    let send = |socket: &mut tungstenite::WebSocket<TcpStream>, channel, text: &str| {
        socket.send(Message::Binary(Bytes::from([&[channel], text.as_bytes()].concat())))
    };
    if let Some((columns, rows)) = script.size {
        send(&mut socket, RESIZE, &json!({ "Width": columns, "Height": rows }).to_string())?;
    }
    let mut lines = script.say.iter().peekable();
    loop {
        let heard = String::from_utf8_lossy(&outputs[usize::from(STDOUT)]).into_owned();
        while let Some(line) = lines.next_if(|line| heard.contains(&line.after)) {
            send(&mut socket, STDIN, &line.input)?;
        }
        if script.leave_at.as_ref().is_some_and(|words| heard.contains(words)) {
            socket.close(None)?;
            break;
        }
        match socket.read() {
            Ok(Message::Binary(data)) => {
                let (channel, text) = data.split_first().ok_or("a message without a channel")?;
                outputs.get_mut(usize::from(*channel)).ok_or("an unknown channel")?.extend_from_slice(text);
            }
            Ok(Message::Close(_)) => break,
            Ok(_) => {}
            Err(tungstenite::Error::ConnectionClosed) => break,
            Err(error) => return Err(format!("{error}; heard so far: {heard}").into()),
        }
    }
    let text = |channel: u8| String::from_utf8_lossy(&outputs[usize::from(channel)]).into_owned();
    let status: Value = serde_json::from_str(&text(ERROR)).unwrap_or(Value::Null);
    Ok(json!({ "stdout": text(STDOUT), "stderr": text(STDERR), "status": status }))
}
