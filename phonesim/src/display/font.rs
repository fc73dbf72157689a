//! A bitmap font of 5 × 7 points: digits, capitals and what host names hold.

/// Points in a row of a glyph.
pub const GLYPH_WIDTH: u32 = 5;

/// Rows of a glyph.
pub const GLYPH_HEIGHT: u32 = 7;

/// Rows from the top; in each the point at the left is bit 4.
type Glyph = [u8; GLYPH_HEIGHT as usize];

/// Shown for what the font does not have.
const UNKNOWN: Glyph = [31, 17, 17, 17, 17, 17, 31];

#[rustfmt::skip]
const GLYPHS: &[(char, Glyph)] = &[
    (' ', [0, 0, 0, 0, 0, 0, 0]),
    ('-', [0, 0, 0, 31, 0, 0, 0]),
    ('.', [0, 0, 0, 0, 0, 12, 12]),
    (':', [0, 12, 12, 0, 12, 12, 0]),
    ('_', [0, 0, 0, 0, 0, 0, 31]),
    ('/', [1, 1, 2, 4, 8, 16, 16]),
    ('0', [14, 17, 19, 21, 25, 17, 14]),
    ('1', [4, 12, 4, 4, 4, 4, 14]),
    ('2', [14, 17, 1, 2, 4, 8, 31]),
    ('3', [31, 2, 4, 2, 1, 17, 14]),
    ('4', [2, 6, 10, 18, 31, 2, 2]),
    ('5', [31, 16, 30, 1, 1, 17, 14]),
    ('6', [6, 8, 16, 30, 17, 17, 14]),
    ('7', [31, 1, 2, 4, 8, 8, 8]),
    ('8', [14, 17, 17, 14, 17, 17, 14]),
    ('9', [14, 17, 17, 15, 1, 2, 12]),
    ('A', [14, 17, 17, 31, 17, 17, 17]),
    ('B', [30, 17, 17, 30, 17, 17, 30]),
    ('C', [14, 17, 16, 16, 16, 17, 14]),
    ('D', [30, 17, 17, 17, 17, 17, 30]),
    ('E', [31, 16, 16, 30, 16, 16, 31]),
    ('F', [31, 16, 16, 30, 16, 16, 16]),
    ('G', [14, 17, 16, 23, 17, 17, 15]),
    ('H', [17, 17, 17, 31, 17, 17, 17]),
    ('I', [14, 4, 4, 4, 4, 4, 14]),
    ('J', [7, 2, 2, 2, 2, 18, 12]),
    ('K', [17, 18, 20, 24, 20, 18, 17]),
    ('L', [16, 16, 16, 16, 16, 16, 31]),
    ('M', [17, 27, 21, 21, 17, 17, 17]),
    ('N', [17, 17, 25, 21, 19, 17, 17]),
    ('O', [14, 17, 17, 17, 17, 17, 14]),
    ('P', [30, 17, 17, 30, 16, 16, 16]),
    ('Q', [14, 17, 17, 17, 21, 18, 13]),
    ('R', [30, 17, 17, 30, 20, 18, 17]),
    ('S', [15, 16, 16, 14, 1, 1, 30]),
    ('T', [31, 4, 4, 4, 4, 4, 4]),
    ('U', [17, 17, 17, 17, 17, 17, 14]),
    ('V', [17, 17, 17, 17, 17, 10, 4]),
    ('W', [17, 17, 17, 21, 21, 21, 10]),
    ('X', [17, 17, 10, 4, 10, 17, 17]),
    ('Y', [17, 17, 17, 10, 4, 4, 4]),
    ('Z', [31, 1, 2, 4, 8, 16, 31]),
];

/// The points of a character that are set, as (column, row). Small letters look like capitals.
pub fn points(character: char) -> impl Iterator<Item = (u32, u32)> {
    let wanted = character.to_ascii_uppercase();
    let glyph = GLYPHS.iter().find(|(known, _)| *known == wanted).map_or(UNKNOWN, |(_, glyph)| *glyph);
    (0..GLYPH_HEIGHT)
        .flat_map(|row| (0..GLYPH_WIDTH).map(move |column| (column, row)))
        .filter(move |(column, row)| glyph[*row as usize] >> (GLYPH_WIDTH - 1 - column) & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_glyph_fits_and_no_two_look_alike() {
        for (index, (character, glyph)) in GLYPHS.iter().enumerate() {
            assert!(glyph.iter().all(|row| *row < 32), "{character}");
            assert!(GLYPHS[index + 1..].iter().all(|(_, other)| other != glyph), "{character}");
        }
    }

    #[test]
    fn small_letters_and_strangers() {
        assert!(points('a').eq(points('A')));
        assert_eq!(points('§').count(), 20);
        assert_eq!(points(' ').count(), 0);
    }
}
