//! Packets of the shell protocol (`shell,v2`), sans-IO: one byte what it is, a length, data.
//! AOSP `shell_protocol.h`.

/// From the host: for the command's input.
pub const STDIN: u8 = 0;
/// To the host: the command's output.
pub const STDOUT: u8 = 1;
/// To the host: what it complains of.
pub const STDERR: u8 = 2;
/// To the host: its exit status, one byte. The last packet.
pub const EXIT: u8 = 3;
/// From the host: there is no more input.
pub const CLOSE_STDIN: u8 = 4;
/// From the host: the window's size, as text.
pub const WINDOW_SIZE: u8 = 5;

const HEADER_BYTES: usize = 5;

/// Longest packet that is taken; adb sends less.
const LONGEST: usize = 1024 * 1024;

/// A packet, ready to be sent.
pub fn packet(kind: u8, data: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES + data.len());
    bytes.push(kind);
    bytes.extend_from_slice(&(data.len() as u32).to_le_bytes());
    bytes.extend_from_slice(data);
    bytes
}

/// Puts packets together from pieces of any length.
#[derive(Debug, Default)]
pub struct Assembly(Vec<u8>);

impl Assembly {
    /// Takes a piece.
    pub fn push(&mut self, piece: &[u8]) {
        self.0.extend_from_slice(piece);
    }

    /// The next packet that is complete. An error: one that is longer than any may be.
    pub fn next(&mut self) -> Result<Option<(u8, Vec<u8>)>, TooLong> {
        let Some((header, rest)) = self.0.split_at_checked(HEADER_BYTES) else { return Ok(None) };
        let [kind, length @ ..] = header else { return Ok(None) };
        let length = length.iter().rev().fold(0_usize, |sum, byte| sum << 8 | usize::from(*byte));
        if length > LONGEST {
            return Err(TooLong);
        }
        let kind = *kind;
        let Some(data) = rest.get(..length).map(<[u8]>::to_vec) else { return Ok(None) };
        self.0.drain(..HEADER_BYTES + length);
        Ok(Some((kind, data)))
    }
}

/// A packet that no host sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLong;

/// Rows and columns of `ROWSxCOLUMNS,WIDTHxHEIGHT`, of which the pixels do not matter here.
pub fn window_size(text: &[u8]) -> Option<(u16, u16)> {
    let text = std::str::from_utf8(text).ok()?;
    let (rows, columns) = text.split(',').next()?.split_once('x')?;
    Some((rows.trim().parse().ok()?, columns.trim().parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_put_together_from_any_pieces() {
        let bytes = [packet(STDIN, b"one"), packet(CLOSE_STDIN, b""), packet(STDIN, &[9; 300])].concat();
        for size in [1, 3, 7, 400] {
            let mut assembly = Assembly::default();
            let mut all = Vec::new();
            for piece in bytes.chunks(size) {
                assembly.push(piece);
                while let Some(next) = assembly.next().unwrap() {
                    all.push(next);
                }
            }
            assert_eq!(all, [(STDIN, b"one".to_vec()), (CLOSE_STDIN, vec![]), (STDIN, vec![9; 300])]);
        }
        let mut assembly = Assembly::default();
        assembly.push(&[0, 255, 255, 255, 255]);
        assert_eq!(assembly.next(), Err(TooLong));
    }

    #[test]
    fn a_window_has_rows_and_columns() {
        assert_eq!(window_size(b"24x80,0x0"), Some((24, 80)));
        assert_eq!(window_size(b"24x80,0x0\0"), Some((24, 80)));
        for bad in [&b""[..], b"x", b"24", b"99999x1", b"\xff"] {
            assert_eq!(window_size(bad), None);
        }
    }
}
