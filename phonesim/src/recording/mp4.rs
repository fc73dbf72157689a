//! An MP4 with one H.264 track (ISO/IEC 14496-12 and -15), written as Android's muxer does:
//! samples go to the file as they come; the index (`moov`) and the length of `mdat` follow at
//! the end. A file that was never finished has neither and cannot be played.

use std::io::{self, Seek, SeekFrom, Write};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::h264::{CONSTRAINTS, LEVEL, PROFILE};
use crate::display::Size;

/// Units of time in a second, of movie and track: milliseconds.
const TIME_SCALE: u32 = 1000;

/// What Android leaves in place of the length of `mdat` until that is known.
const LENGTH_TO_COME: &[u8; 8] = b"????????";

/// Bytes in front of the samples within `mdat`.
const MDAT_HEADER: u64 = 16;

/// From the epoch of MP4 (1904) to that of Unix, in seconds.
const MP4_EPOCH_OFFSET: u64 = 2_082_844_800;

/// No rotation, no scaling: the unit matrix in fixed-point numbers.
const MATRIX: [u32; 9] = [0x1_0000, 0, 0, 0, 0x1_0000, 0, 0, 0, 0x4000_0000];

struct Sample {
    length: u32,
    start_ms: u64,
    key: bool,
}

/// A file being written.
pub struct Mp4Writer<W> {
    file: W,
    size: Size,
    sequence_parameters: Vec<u8>,
    picture_parameters: Vec<u8>,
    /// Where `mdat` starts.
    mdat: u64,
    samples: Vec<Sample>,
}

impl<W: Write + Seek> Mp4Writer<W> {
    /// Starts a file that is empty.
    pub fn start(
        mut file: W,
        size: Size,
        sequence_parameters: Vec<u8>,
        picture_parameters: Vec<u8>,
    ) -> io::Result<Self> {
        let head = boxed(*b"ftyp", &[b"mp42".as_slice(), &[0; 4], b"isom", b"mp42"].concat());
        file.write_all(&head)?;
        // A length of 1 means that a longer one follows the name.
        file.write_all(&[b"\0\0\0\x01mdat".as_slice(), LENGTH_TO_COME].concat())?;
        Ok(Self {
            file,
            size,
            sequence_parameters,
            picture_parameters,
            mdat: head.len() as u64,
            samples: Vec::new(),
        })
    }

    /// Writes a frame (one NAL unit) that is shown from `at` on, counted from the start.
    pub fn write(&mut self, unit: &[u8], at: Duration, key: bool) -> io::Result<()> {
        let mut sample = (unit.len() as u32).to_be_bytes().to_vec();
        sample.extend_from_slice(unit);
        self.file.write_all(&sample)?;
        // Two frames never share a millisecond: a sample must last.
        let earliest = self.samples.last().map_or(0, |before| before.start_ms + 1);
        self.samples.push(Sample {
            length: sample.len() as u32,
            start_ms: (at.as_millis() as u64).max(earliest),
            key,
        });
        Ok(())
    }

    /// Writes what makes the file playable; the last frame is shown until `end`.
    pub fn finish(mut self, end: Duration) -> io::Result<()> {
        let payload: u64 = self.samples.iter().map(|sample| u64::from(sample.length)).sum();
        let moov = self.moov(end);
        self.file.write_all(&moov)?;
        self.file.seek(SeekFrom::Start(self.mdat + 8))?;
        self.file.write_all(&(MDAT_HEADER + payload).to_be_bytes())?;
        self.file.flush()
    }

    fn moov(&self, end: Duration) -> Vec<u8> {
        let durations = self.sample_durations(end);
        let duration: u32 = durations.iter().sum();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        // The field has 32 bits and will do until 2040.
        let now = (now + MP4_EPOCH_OFFSET) as u32;
        let movie_header = [
            numbers(&[0, now, now, TIME_SCALE, duration, 0x1_0000, 0x0100_0000, 0, 0]),
            numbers(&MATRIX),
            numbers(&[0; 6]),
            numbers(&[2]), // the next track's number
        ];
        let track_header = [
            // Enabled, in the movie, in the preview.
            numbers(&[7, now, now, 1, 0, duration, 0, 0, 0, 0]),
            numbers(&MATRIX),
            numbers(&[self.size.width << 16, self.size.height << 16]),
        ];
        let media_header = numbers(&[0, now, now, TIME_SCALE, duration, 0x55c4_0000]);
        let handler = [numbers(&[0, 0]), b"vide".to_vec(), numbers(&[0; 3]), b"VideoHandle\0".to_vec()];
        // The samples are in this file.
        let reference = [numbers(&[0, 1]), boxed(*b"url ", &numbers(&[1]))];
        let media_information = [
            boxed(*b"vmhd", &numbers(&[1, 0, 0])),
            boxed(*b"dinf", &boxed(*b"dref", &reference.concat())),
            boxed(*b"stbl", &self.sample_table(&durations)),
        ];
        let media = [
            boxed(*b"mdhd", &media_header),
            boxed(*b"hdlr", &handler.concat()),
            boxed(*b"minf", &media_information.concat()),
        ];
        let track = [boxed(*b"tkhd", &track_header.concat()), boxed(*b"mdia", &media.concat())];
        let movie = [boxed(*b"mvhd", &movie_header.concat()), boxed(*b"trak", &track.concat())];
        boxed(*b"moov", &movie.concat())
    }

    /// In milliseconds, each until the next one; at least one.
    fn sample_durations(&self, end: Duration) -> Vec<u32> {
        let ends = self.samples.iter().skip(1).map(|next| next.start_ms).chain([end.as_millis() as u64]);
        self.samples
            .iter()
            .zip(ends)
            .map(|(sample, end)| end.saturating_sub(sample.start_ms).max(1) as u32)
            .collect()
    }

    fn sample_table(&self, durations: &[u32]) -> Vec<u8> {
        let count = self.samples.len() as u32;
        let mut times = vec![0, count];
        times.extend(durations.iter().flat_map(|duration| [1, *duration]));
        let keys: Vec<u32> =
            (1..).zip(&self.samples).filter(|(_, sample)| sample.key).map(|(number, _)| number).collect();
        let mut key_table = vec![0, keys.len() as u32];
        key_table.extend(keys);
        let mut lengths = vec![0, 0, count];
        lengths.extend(self.samples.iter().map(|sample| sample.length));
        // All samples are one chunk. It starts in the first bytes of the file.
        let chunk = (self.mdat + MDAT_HEADER) as u32;
        [
            boxed(*b"stsd", &[numbers(&[0, 1]), self.sample_description()].concat()),
            boxed(*b"stts", &numbers(&times)),
            boxed(*b"stss", &numbers(&key_table)),
            boxed(*b"stsc", &numbers(&[0, 1, 1, count, 1])),
            boxed(*b"stsz", &numbers(&lengths)),
            boxed(*b"stco", &numbers(&[0, 1, chunk])),
        ]
        .concat()
    }

    /// `avc1` with its decoder configuration.
    fn sample_description(&self) -> Vec<u8> {
        let mut configuration = vec![1, PROFILE, CONSTRAINTS, LEVEL];
        // Lengths of four bytes; one sequence parameter set, one picture parameter set.
        configuration.extend([0xff, 0xe1]);
        configuration.extend((self.sequence_parameters.len() as u16).to_be_bytes());
        configuration.extend(&self.sequence_parameters);
        configuration.push(1);
        configuration.extend((self.picture_parameters.len() as u16).to_be_bytes());
        configuration.extend(&self.picture_parameters);

        let mut entry = numbers(&[0, 1]); // data reference 1
        entry.extend([0; 16]);
        entry.extend((self.size.width as u16).to_be_bytes());
        entry.extend((self.size.height as u16).to_be_bytes());
        entry.extend(numbers(&[0x48_0000, 0x48_0000, 0])); // 72 dots per inch
        entry.extend(1_u16.to_be_bytes()); // one frame in a sample
        entry.extend([0; 32]); // no name of the compressor
        entry.extend([0, 24, 0xff, 0xff]); // colour depth; no palette
        entry.extend(boxed(*b"avcC", &configuration));
        boxed(*b"avc1", &entry)
    }
}

/// A box: length, name, content.
fn boxed(name: [u8; 4], content: &[u8]) -> Vec<u8> {
    let mut bytes = (content.len() as u32 + 8).to_be_bytes().to_vec();
    bytes.extend(name);
    bytes.extend(content);
    bytes
}

/// 32-bit numbers as they stand in boxes; the first is often version and flags.
fn numbers(values: &[u32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_be_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn write(finish: bool) -> Vec<u8> {
        let size = Size { width: 16, height: 16 };
        let mut file = Cursor::new(Vec::new());
        let mut writer = Mp4Writer::start(&mut file, size, vec![1], vec![2]).unwrap();
        let at = Duration::from_millis;
        writer.write(b"first", at(0), true).unwrap();
        writer.write(b"second", at(200), false).unwrap();
        writer.write(b"third", at(200), false).unwrap();
        if finish {
            writer.finish(at(1000)).unwrap();
        }
        file.into_inner()
    }

    fn place(file: &[u8], name: &[u8]) -> Option<usize> {
        file.windows(name.len()).position(|window| window == name)
    }

    #[test]
    fn a_finished_file_has_an_index_and_lengths() {
        let file = write(true);
        let mdat = place(&file, b"mdat").unwrap();
        let length = u64::from_be_bytes(file[mdat + 4..mdat + 12].try_into().unwrap());
        let moov = place(&file, b"moov").unwrap();
        assert_eq!(mdat as u64 - 4 + length, moov as u64 - 4);
        let times = place(&file, b"stts").unwrap();
        assert_eq!(file[times + 4..times + 36], numbers(&[0, 3, 1, 200, 1, 1, 1, 799]));
    }

    #[test]
    fn an_unfinished_file_has_neither() {
        let file = write(false);
        assert_eq!(place(&file, b"moov"), None);
        assert!(place(&file, b"mdat????????").is_some());
        assert!(file.ends_with(b"third"));
    }
}
