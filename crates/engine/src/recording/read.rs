//! Recordings as people see them: any span of time in as many points as there is room for.

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom},
    path::Path,
};

use serde::{Deserialize, Serialize};
use serin_core::Timestamp;

use super::{Point, Sample, sample::Sum};

/// Longest line that is understood, in bytes; a sample is a few hundred.
const LONGEST_LINE: u64 = 256 * 1024;
/// Shortest span of a point, in milliseconds.
const SHORTEST_STEP_MS: u64 = 1_000;

/// A span of time in points.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Points {
    /// In the order of time. Where nothing was seen there is no point.
    pub points: Vec<Point>,
    /// How long the span of a point is where samples follow each other, in milliseconds.
    pub step_ms: u64,
}

/// What was recorded after `from` and up to `to`, in at most `most` points (at least one). Nothing where there is no recording.
///
/// # Errors
/// If the file cannot be read. Lines that cannot be understood are left out.
pub fn read(path: &Path, from: Timestamp, to: Timestamp, most: usize) -> io::Result<Points> {
    let mut file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Points::default()),
        file => file?,
    };
    seek_after(&mut file, from)?;
    let start = file.stream_position()?;
    let Some(first) = next_at(&mut file, start)? else { return Ok(Points::default()) };
    let last = last_at(&mut file)?.unwrap_or(first).min(to);
    file.seek(SeekFrom::Start(start))?;
    let began = from.max(Timestamp(first.0.saturating_sub(SHORTEST_STEP_MS)));
    let step_ms = last.ms_since(began).div_ceil(u64::try_from(most.max(1)).unwrap_or(u64::MAX)).max(SHORTEST_STEP_MS);
    let mut sums: Vec<(u64, Sum)> = Vec::new();
    for sample in Lines(BufReader::new(file)).filter(|sample| sample.at > from).take_while(|sample| sample.at <= to) {
        let place = sample.at.ms_since(began).saturating_sub(1) / step_ms;
        match sums.last_mut() {
            Some((last, sum)) if *last == place => sum.add(sample),
            _ => sums.push((place, Sum::new(sample))),
        }
    }
    Ok(Points { points: sums.into_iter().map(|(_, sum)| sum.point()).collect(), step_ms })
}

/// All samples of a file.
pub(super) fn samples(path: &Path) -> io::Result<impl Iterator<Item = Sample> + use<>> {
    Ok(Lines(BufReader::new(File::open(path)?)))
}

/// Samples by line, without those that cannot be understood.
struct Lines(BufReader<File>);

impl Iterator for Lines {
    type Item = Sample;

    fn next(&mut self) -> Option<Sample> {
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = self.0.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line).ok()?;
            if read == 0 {
                return None;
            }
            if let Ok(sample) = serde_json::from_slice(&line) {
                return Some(sample);
            }
        }
    }
}

/// The time of a sample, without the rest of it.
#[derive(Deserialize)]
struct Moment {
    at: Timestamp,
}

/// Goes to the beginning of a line not far before the first sample after `from`: lines are in the order of time.
fn seek_after(file: &mut File, from: Timestamp) -> io::Result<()> {
    let (mut low, mut high) = (0, file.metadata()?.len());
    while high - low > LONGEST_LINE {
        let middle = low.midpoint(high);
        match line_after(file, middle)? {
            Some((start, at)) if at <= from && start > low => low = start,
            _ => high = middle,
        }
    }
    file.seek(SeekFrom::Start(low)).map(|_| ())
}

/// The first understood line that begins after a place: where, and its time.
fn line_after(file: &mut File, place: u64) -> io::Result<Option<(u64, Timestamp)>> {
    file.seek(SeekFrom::Start(place))?;
    let mut reader = BufReader::new(&mut *file).take(LONGEST_LINE * 2);
    let mut start = place + reader.read_until(b'\n', &mut Vec::new())? as u64;
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = reader.read_until(b'\n', &mut line)? as u64;
        if read == 0 {
            return Ok(None);
        }
        if let Ok(Moment { at }) = serde_json::from_slice(&line) {
            return Ok(Some((start, at)));
        }
        start += read;
    }
}

/// The time of the first understood line from a place on that is the beginning of a line.
fn next_at(file: &mut File, place: u64) -> io::Result<Option<Timestamp>> {
    file.seek(SeekFrom::Start(place))?;
    let lines = BufReader::new(&mut *file).take(LONGEST_LINE * 2).split(b'\n');
    Ok(lines.map_while(Result::ok).find_map(|line| serde_json::from_slice::<Moment>(&line).ok()).map(|moment| moment.at))
}

/// The time of the last understood line.
fn last_at(file: &mut File) -> io::Result<Option<Timestamp>> {
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LONGEST_LINE)))?;
    let mut tail = Vec::new();
    file.take(LONGEST_LINE).read_to_end(&mut tail)?;
    let mut lines = tail.rsplit(|byte| *byte == b'\n');
    Ok(lines.find_map(|line| serde_json::from_slice::<Moment>(line).ok()).map(|moment| moment.at))
}

#[cfg(test)]
mod tests {
    use std::{fmt::Write as _, fs, path::PathBuf};

    use super::{super::sample::tests::second, *};

    fn recording(seconds: std::ops::RangeInclusive<u64>) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let mut text = String::new();
        for number in seconds {
            writeln!(text, "{}", serde_json::to_string(&second(number * 1_000, [9, 1], 0)).unwrap()).unwrap();
        }
        let path = folder.path().join("1.jsonl");
        fs::write(&path, text).unwrap();
        (folder, path)
    }

    fn totals(points: &Points) -> u64 {
        points.points.iter().map(|point| point.arms[0].requests + point.arms[1].requests).sum()
    }

    #[test]
    fn any_span_has_as_many_points_as_there_is_room_for() {
        let (_folder, path) = recording(1..=7_200);
        let ever = (Timestamp(0), Timestamp(u64::MAX));
        for most in [1, 7, 100, 7_200, 100_000] {
            let points = read(&path, ever.0, ever.1, most).unwrap();
            assert!(points.points.len() <= most && points.points.len() * 2 > most.min(7_200), "{} of {most}", points.points.len());
            assert_eq!(totals(&points), 72_000, "nothing is left out");
        }
        // From the middle of a long file.
        let points = read(&path, Timestamp(7_000_000), Timestamp(7_010_000), 100).unwrap();
        let at: Vec<_> = points.points.iter().map(|point| point.at.0).collect();
        assert_eq!(at, (7_001..=7_010).map(|second| second * 1_000).collect::<Vec<_>>());
        assert_eq!(points.step_ms, 1_000);
        let rest = read(&path, Timestamp(7_190_000), ever.1, 5).unwrap();
        assert_eq!((totals(&rest), rest.points.len(), rest.step_ms), (100, 5, 2_000));
        assert!(read(&path, Timestamp(7_200_000), ever.1, 5).unwrap().points.is_empty(), "nothing later");
    }

    #[test]
    fn what_is_not_there_or_not_understood_is_left_out() {
        let (folder, path) = recording(1..=3);
        assert_eq!(read(&folder.path().join("2.jsonl"), Timestamp(0), Timestamp(9), 10).unwrap(), Points::default());
        let mut text = fs::read(&path).unwrap();
        text.extend_from_slice(b"nonsense\n{\"at\":9000}\n\xff\xfe\n{\"at\":4000,\"span");
        fs::write(&path, text).unwrap();
        assert_eq!(totals(&read(&path, Timestamp(0), Timestamp(u64::MAX), 10).unwrap()), 30);
        fs::write(&path, "").unwrap();
        assert_eq!(read(&path, Timestamp(0), Timestamp(9), 10).unwrap(), Points::default());
    }
}
