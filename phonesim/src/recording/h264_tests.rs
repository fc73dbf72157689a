//! Tests of the encoder. A foreign decoder, where there is one, must show what was drawn.

use std::io::Write;
use std::process::{Command, Stdio};

use super::*;

fn size(width: u32, height: u32) -> Size {
    Size { width, height }
}

fn picture(size: Size, number: u32) -> Picture {
    Picture::draw(size, &["CP-1", &format!("12:00:{:02}", number / 5), &format!("{number:06}")])
}

#[test]
fn the_first_frame_is_a_key_frame_and_small_changes_are_small() {
    let size = size(180, 320);
    let mut encoder = Encoder::new(size);
    let first = encoder.encode(&picture(size, 0), false);
    assert!(first.key);
    assert!(first.unit.len() < 20_000, "{}", first.unit.len());

    let next = encoder.encode(&picture(size, 1), false);
    assert!(!next.key);
    assert!(next.unit.len() < 500, "{}", next.unit.len());

    let same = encoder.encode(&picture(size, 1), false);
    assert!(same.unit.len() < 12, "{}", same.unit.len());

    assert!(encoder.encode(&picture(size, 1), true).key);
}

#[test]
fn colours_of_the_standard() {
    assert_eq!(video_colour([0, 0, 0]), [16, 128, 128]);
    assert_eq!(video_colour([255, 255, 255]), [235, 128, 128]);
}

/// Needs ffmpeg; without it the test says so and passes.
#[test]
fn a_decoder_shows_exactly_what_was_drawn() {
    if Command::new("ffmpeg").arg("-version").output().is_err() {
        eprintln!("ffmpeg is not installed: nothing was decoded");
        return;
    }
    // In one of them more frames follow a key frame than frame_num can count.
    for (size, frames) in
        [(size(180, 320), 40), (size(320, 180), 40), (size(18, 34), 300), (size(16, 16), 40)]
    {
        let mut encoder = Encoder::new(size);
        let mut stream = Vec::new();
        let mut drawn = Vec::new();
        let mut units = vec![encoder.sequence_parameters(), encoder.picture_parameters()];
        for number in 0..frames {
            let picture = picture(size, number);
            units.push(encoder.encode(&picture, number == 20 || number == 21).unit);
            let [luma, ..] = planes(&picture, encoder.columns, encoder.lines);
            for row in luma.samples.chunks(luma.stride).take(size.height as usize) {
                drawn.extend_from_slice(&row[..size.width as usize]);
            }
        }
        for unit in units {
            stream.extend([0, 0, 0, 1]);
            stream.extend(unit);
        }
        let shown = decode_luma(&stream);
        assert_eq!(shown.len(), drawn.len(), "{size}");
        assert!(shown == drawn, "{size}");
    }
}

/// The luma of every frame that ffmpeg finds in an H.264 stream.
fn decode_luma(stream: &[u8]) -> Vec<u8> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(stream).unwrap();
    let output = Command::new("ffmpeg")
        .args(["-v", "error", "-xerror", "-f", "h264", "-i"])
        .arg(file.path())
        .args(["-vsync", "0", "-vf", "extractplanes=y", "-f", "rawvideo", "-"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && complaints.is_empty(), "{complaints}");
    output.stdout
}
