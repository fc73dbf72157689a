//! A picture as a PNG (RFC 2083): eight bits a pixel, with a palette, unfiltered.

use miniz_oxide::deflate::compress_to_vec_zlib;

use super::picture::{PALETTE, Picture};

const SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";

/// Fast, and small enough for bars and text.
const COMPRESSION_LEVEL: u8 = 3;

/// The whole file.
pub fn encode(picture: &Picture) -> Vec<u8> {
    let mut header = Vec::new();
    header.extend(picture.size.width.to_be_bytes());
    header.extend(picture.size.height.to_be_bytes());
    // Bit depth, colour type "indexed", compression, filter, no interlace.
    header.extend([8, 3, 0, 0, 0]);

    let width = picture.size.width as usize;
    let mut rows = Vec::with_capacity(picture.pixels.len() + picture.size.height as usize);
    for row in picture.pixels.chunks(width) {
        // Filter "none".
        rows.push(0);
        rows.extend(row);
    }

    let mut file = SIGNATURE.to_vec();
    chunk(&mut file, *b"IHDR", &header);
    chunk(&mut file, *b"PLTE", PALETTE.as_flattened());
    chunk(&mut file, *b"IDAT", &compress_to_vec_zlib(&rows, COMPRESSION_LEVEL));
    chunk(&mut file, *b"IEND", &[]);
    file
}

fn chunk(file: &mut Vec<u8>, kind: [u8; 4], content: &[u8]) {
    file.extend((content.len() as u32).to_be_bytes());
    let start = file.len();
    file.extend(kind);
    file.extend(content);
    let sum = checksum(&file[start..]);
    file.extend(sum.to_be_bytes());
}

/// CRC-32 as of RFC 2083, bit by bit: the compressed picture is a few kilobytes.
fn checksum(bytes: &[u8]) -> u32 {
    let mut sum = u32::MAX;
    for byte in bytes {
        sum ^= u32::from(*byte);
        for _ in 0..8 {
            let odd = sum & 1 == 1;
            sum >>= 1;
            if odd {
                sum ^= 0xedb8_8320;
            }
        }
    }
    !sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::display::Size;

    #[test]
    fn the_checksum_is_the_well_known_one() {
        assert_eq!(checksum(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn the_pixels_come_back() {
        let size = Size { width: 90, height: 160 };
        let picture = Picture::draw(size, &["X"]);
        let file = encode(&picture);
        let place = file.windows(4).position(|window| window == b"IDAT").unwrap();
        let length = u32::from_be_bytes(file[place - 4..place].try_into().unwrap()) as usize;
        let rows =
            miniz_oxide::inflate::decompress_to_vec_zlib(&file[place + 4..place + 4 + length]).unwrap();
        let pixels: Vec<u8> = rows.chunks(91).flat_map(|row| &row[1..]).copied().collect();
        assert_eq!(pixels, picture.pixels);
    }
}
