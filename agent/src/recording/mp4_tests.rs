//! Whole videos, torn ones, lies and noise.

use super::*;

fn check(file: &[u8]) -> Result<Movie, Flaw> {
    let mut check = Check::new(file.len() as u64);
    for _ in 0..=BOXES + 1 {
        match check.wants() {
            Err(result) => return result,
            Ok(range) => {
                assert!(!range.is_empty() && range.end - range.start <= 64);
                check.give(&file[range.start as usize..range.end as usize]);
            }
        }
    }
    panic!("it never ends");
}

fn boxed(kind: &[u8], body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 8).unwrap();
    [&length.to_be_bytes()[..], kind, body].concat()
}

fn movie_header(scale: u32, duration: u32) -> Vec<u8> {
    let mut body = vec![0; 100];
    body[12..16].copy_from_slice(&scale.to_be_bytes());
    body[16..20].copy_from_slice(&duration.to_be_bytes());
    boxed(b"mvhd", &body)
}

fn video(index: &[u8]) -> Vec<u8> {
    [boxed(b"ftyp", b"isom0000"), boxed(b"mdat", &[7; 500]), boxed(b"moov", index)].concat()
}

#[test]
fn a_whole_video_has_its_length() {
    assert_eq!(check(&video(&movie_header(1000, 2500))), Ok(Movie { duration_ms: 2500 }));
    assert_eq!(check(&video(&movie_header(90_000, 90_000 * 180))), Ok(Movie { duration_ms: 180_000 }));
    // Something before `mvhd`, lengths of 8 bytes, and an `mvhd` of version 1.
    let mut body = vec![0; 112];
    body[0] = 1;
    body[20..24].copy_from_slice(&600_u32.to_be_bytes());
    body[24..32].copy_from_slice(&(600_u64 * 7).to_be_bytes());
    let index = [boxed(b"free", &[0; 9]), boxed(b"mvhd", &body)].concat();
    let wide = [&1_u32.to_be_bytes()[..], b"mdat", &116_u64.to_be_bytes(), &[1; 100]].concat();
    let file = [boxed(b"ftyp", b"isom"), wide, boxed(b"moov", &index)].concat();
    assert_eq!(check(&file), Ok(Movie { duration_ms: 7000 }));
}

#[test]
fn what_is_no_video_is_told_by_name() {
    assert_eq!(check(b""), Err(Flaw::NotAVideo));
    assert_eq!(check(b"ERROR: unable to create video/avc codec instance"), Err(Flaw::NotAVideo));
    let torn = [&boxed(b"ftyp", b"isom")[..], &0_u32.to_be_bytes(), b"mdat", &[3; 900]].concat();
    assert_eq!(check(&torn), Err(Flaw::Truncated));
    let promised = [&boxed(b"ftyp", b"isom")[..], &9999_u32.to_be_bytes(), b"mdat", &[3; 900]].concat();
    assert_eq!(check(&promised), Err(Flaw::Truncated));
    assert_eq!(check(&boxed(b"ftyp", b"isom")), Err(Flaw::Truncated));
    assert_eq!(check(&video(&movie_header(1000, 0))), Err(Flaw::Empty));
    assert!(matches!(check(&video(&movie_header(0, 5))), Err(Flaw::Damaged { .. })));
    assert!(matches!(check(&video(&boxed(b"free", b""))), Err(Flaw::Damaged { .. })));
    assert!(matches!(check(&video(b"")), Err(Flaw::Damaged { .. })));
    let tiny = [&boxed(b"ftyp", b"isom")[..], &3_u32.to_be_bytes(), b"mdat"].concat();
    assert!(matches!(check(&tiny), Err(Flaw::Damaged { .. })));
}

#[test]
fn no_file_makes_it_work_for_long_or_fall() {
    let many = [boxed(b"ftyp", b"isom"), boxed(b"free", b"").repeat(100_000)].concat();
    assert!(matches!(check(&many), Err(Flaw::Damaged { .. })));
    let endless =
        [&boxed(b"ftyp", b"isom")[..], &1_u32.to_be_bytes(), b"mdat", &u64::MAX.to_be_bytes()].concat();
    assert_eq!(check(&endless), Err(Flaw::Truncated));
    // Every cut, and every byte replaced.
    let whole = video(&movie_header(1000, 2500));
    for end in 0..whole.len() {
        let _ = check(&whole[..end]);
    }
    for at in 0..whole.len() {
        for value in [0, 1, 2, 7, 8, 0x7f, 0x80, 0xff] {
            let mut bad = whole.clone();
            bad[at] = value;
            let _ = check(&bad);
        }
    }
    // A file that is shorter than it said.
    let mut short = Check::new(1000);
    short.give(&[]);
    assert_eq!(short.wants(), Err(Err(Flaw::NotAVideo)));
}

#[test]
fn noise_never_makes_it_fall() {
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    for round in 0..20_000_usize {
        let noise: Vec<u8> = (0..round % 200)
            .map(|_| {
                seed ^= seed << 13;
                seed ^= seed >> 7;
                seed ^= seed << 17;
                seed as u8
            })
            .collect();
        let index = if round % 2 == 0 { noise } else { boxed(b"mvhd", &noise) };
        let _ = check(&video(&index));
        let _ = check(&[boxed(b"ftyp", b"isom"), index].concat());
    }
}
