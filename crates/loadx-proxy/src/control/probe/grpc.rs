//! The health check of gRPC (grpc.health.v1): what a probe sends, and what a response says.

use loadx_http::grpc;

use super::http2::Response;

/// The head of the request, in the notation of HTTP/1.1.
pub(super) fn head(authority: &str) -> String {
    format!(
        "POST /grpc.health.v1.Health/Check HTTP/1.1\r\nHost: {authority}\r\nTE: trailers\r\n\
         Content-Type: application/grpc\r\nUser-Agent: LoadX-health\r\n\r\n"
    )
}

/// The content of the request: one message, which names the service; an empty name means the whole server.
pub(super) fn content(service: &str) -> Vec<u8> {
    let mut message = Vec::new();
    if !service.is_empty() {
        // Field 1 of HealthCheckRequest, a string.
        message.push(0x0a);
        put_varint(service.len(), &mut message);
        message.extend_from_slice(service.as_bytes());
    }
    // Not compressed, then the length.
    let mut content = vec![0];
    content.extend_from_slice(&(message.len() as u32).to_be_bytes());
    content.extend_from_slice(&message);
    content
}

/// Whether the service is up.
///
/// # Errors
/// Why it is not, as text for the log.
pub(super) fn judge(service: &str, response: &Response) -> Result<(), String> {
    let service = if service.is_empty() { "the server" } else { service };
    if response.status != 200 {
        return Err(format!("grpc.health.v1 answered HTTP status {}", response.status));
    }
    match grpc::status_in(&response.lines) {
        Some(grpc::Status::OK) => {}
        Some(grpc::Status::NOT_FOUND) => return Err(format!("grpc.health.v1 does not know {service}")),
        Some(grpc::Status::UNIMPLEMENTED) => {
            return Err("the backend does not have the service grpc.health.v1".to_owned());
        }
        Some(status) => return Err(format!("grpc.health.v1 answered with gRPC status {status}")),
        None => return Err("grpc.health.v1 answered without a gRPC status".to_owned()),
    }
    match serving_status(&response.content) {
        Some(1) => Ok(()),
        Some(status) => {
            let name = match status {
                0 => "UNKNOWN",
                2 => "NOT_SERVING",
                3 => "SERVICE_UNKNOWN",
                _ => "an unknown status",
            };
            Err(format!("grpc.health.v1 says {name} of {service}"))
        }
        None => Err("grpc.health.v1 answered with something else than a HealthCheckResponse".to_owned()),
    }
}

/// The field 1 of HealthCheckResponse, an enumeration; 0 if the message does not have the field.
fn serving_status(content: &[u8]) -> Option<usize> {
    let (head, message) = content.split_first_chunk::<5>()?;
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
    let mut rest = message.get(..length).filter(|_| head[0] == 0)?;
    let mut status = 0;
    while !rest.is_empty() {
        let key = take_varint(&mut rest)?;
        match (key >> 3, key & 7) {
            (1, 0) => status = take_varint(&mut rest)?,
            (_, 0) => drop(take_varint(&mut rest)?),
            (_, 1) => rest = rest.get(8..)?,
            (_, 2) => {
                let length = take_varint(&mut rest)?;
                rest = rest.get(length..)?;
            }
            (_, 5) => rest = rest.get(4..)?,
            _ => return None,
        }
    }
    Some(status)
}

fn put_varint(mut number: usize, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn take_varint(bytes: &mut &[u8]) -> Option<usize> {
    let mut number = 0;
    for shift in (0..).step_by(7).take(9) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_name_the_service() {
        assert_eq!(content(""), [0, 0, 0, 0, 0]);
        assert_eq!(content("a.B"), *b"\0\0\0\0\x05\x0a\x03a.B");
        let long = content(&"x".repeat(200));
        assert_eq!((long.len(), &long[5..8]), (5 + 203, &[0x0a, 0xc8, 0x01][..]));
    }

    #[test]
    fn responses_tell_the_status() {
        for (message, status) in [
            (&b"\x08\x01"[..], Some(1)),
            (b"\x08\x02", Some(2)),
            (b"", Some(0)),
            (b"\x12\x02hi\x08\x01", Some(1)),
            (b"\x0d\0\0\0\0\x08\x03", Some(3)),
            (b"\x08", None),
            (b"\x12\x7f", None),
            (b"\x0f", None),
            (b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", None),
        ] {
            let content = [&[0][..], &(message.len() as u32).to_be_bytes(), message].concat();
            assert_eq!(serving_status(&content), status, "{message:?}");
        }
        assert_eq!(serving_status(b"\0\0\0\0\x05\x08"), None, "a message that is cut");
        assert_eq!(serving_status(b"\x01\0\0\0\x02\x08\x01"), None, "a compressed message");
    }
}
