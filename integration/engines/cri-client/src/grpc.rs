//! One gRPC call over a Unix socket: a POST over HTTP/2 whose body is the length and the bytes of a message,
//! and whose outcome is in the trailers (grpc/doc/PROTOCOL-HTTP2.md).

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::HeaderMap;
use std::error::Error;
use std::path::Path;
use tokio::net::UnixStream;

/// Calls `/runtime.v1.SERVICE/METHOD`; the encoded response.
///
/// # Errors
/// The socket's, the protocol's, and what the server says by `grpc-status` and `grpc-message`.
pub async fn call(socket: &Path, method: &str, message: &[u8]) -> Result<Bytes, Box<dyn Error>> {
    let stream =
        UnixStream::connect(socket).await.map_err(|error| format!("{}: {error}", socket.display()))?;
    let (client, connection) = h2::client::handshake(stream).await?;
    // It drives the connection until the client is dropped; what goes wrong in it, the call sees too.
    let driver = tokio::spawn(connection);
    let mut client = client.ready().await?;
    let request = http::Request::post(format!("http://localhost/runtime.v1.{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())?;
    let (response, mut body) = client.send_request(request, false)?;
    let mut frame = BytesMut::with_capacity(message.len() + 5);
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len())?);
    frame.put_slice(message);
    body.send_data(frame.freeze(), true)?;

    let (head, mut body) = response.await?.into_parts();
    // A call that fails at once has its outcome in the headers.
    outcome(&head.headers)?;
    let mut answer = BytesMut::new();
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        answer.extend_from_slice(&data);
    }
    if let Some(trailers) = body.trailers().await? {
        outcome(&trailers)?;
    }
    driver.abort();
    let mut answer = answer.freeze();
    if answer.len() < 5 || answer.get_u8() != 0 || answer.get_u32() as usize != answer.len() {
        return Err("the response is not one uncompressed message".into());
    }
    Ok(answer)
}

fn outcome(headers: &HeaderMap) -> Result<(), String> {
    let text = |name| headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    match text("grpc-status").as_deref() {
        None | Some("0") => Ok(()),
        Some(code) => Err(format!("code {code}: {}", text("grpc-message").unwrap_or_default())),
    }
}
