//! Writes the archive that a kernel takes as its first file system: cpio in the "newc" format, uncompressed
//! (Documentation/driver-api/early-userspace/buffer-format.rst of the kernel's sources).

use std::{
    collections::BTreeSet,
    io::{self, Write},
    path::Path,
};

/// An archive that is being written. Directories come by themselves.
pub(super) struct Archive<W> {
    to: W,
    entries: u32,
    /// What has been written, as absolute paths.
    names: BTreeSet<String>,
}

const DIRECTORY: u32 = 0o040_755;
const FILE: u32 = 0o100_644;
const PROGRAM: u32 = 0o100_755;
const LINK: u32 = 0o120_777;

impl<W: Write> Archive<W> {
    pub(super) fn new(to: W) -> Self {
        Self {
            to,
            entries: 0,
            names: BTreeSet::new(),
        }
    }

    /// An empty directory, and those above it.
    pub(super) fn directory(&mut self, path: &str) -> io::Result<()> {
        let above = Path::new(path).parent().and_then(Path::to_str);
        if let Some(above) = above.filter(|above| !matches!(*above, "" | "/")) {
            self.directory(above)?;
        }
        self.entry(path, DIRECTORY, &[])
    }

    pub(super) fn file(&mut self, path: &str, data: &[u8]) -> io::Result<()> {
        self.below_its_directory(path, FILE, data)
    }

    pub(super) fn program(&mut self, path: &str, data: &[u8]) -> io::Result<()> {
        self.below_its_directory(path, PROGRAM, data)
    }

    pub(super) fn link(&mut self, path: &str, to: &str) -> io::Result<()> {
        self.below_its_directory(path, LINK, to.as_bytes())
    }

    /// Ends the archive.
    pub(super) fn finish(mut self) -> io::Result<W> {
        self.write("TRAILER!!!", 0, &[])?;
        self.to.flush()?;
        Ok(self.to)
    }

    fn below_its_directory(&mut self, path: &str, mode: u32, data: &[u8]) -> io::Result<()> {
        if let Some(directory) = Path::new(path).parent().and_then(Path::to_str)
            && directory != "/"
        {
            self.directory(directory)?;
        }
        self.entry(path, mode, data)
    }

    /// What is there already stays as it is: two programs bring the same library.
    fn entry(&mut self, path: &str, mode: u32, data: &[u8]) -> io::Result<()> {
        if !path.starts_with('/') {
            let message = format!("{path} is not an absolute path");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        if !self.names.insert(path.to_owned()) {
            return Ok(());
        }
        self.write(path.trim_start_matches('/'), mode, data)
    }

    fn write(&mut self, name: &str, mode: u32, data: &[u8]) -> io::Result<()> {
        self.entries += 1;
        let size = u32::try_from(data.len())
            .map_err(|_| io::Error::new(io::ErrorKind::FileTooLarge, format!("{name}: 4 GiB")))?;
        let name_size = name.len() as u32 + 1;
        write!(self.to, "070701")?;
        let (owner, links, time, device, check) = (0, 1, 0, 0, 0);
        for field in [
            self.entries,
            mode,
            owner,
            owner,
            links,
            time,
            size,
            device,
            device,
            device,
            device,
            name_size,
            check,
        ] {
            write!(self.to, "{field:08X}")?;
        }
        self.to.write_all(name.as_bytes())?;
        self.to.write_all(b"\0")?;
        // Name and data each end at a multiple of four.
        self.pad(HEADER + name_size as usize)?;
        self.to.write_all(data)?;
        self.pad(data.len())
    }

    fn pad(&mut self, length: usize) -> io::Result<()> {
        self.to.write_all(&[0; 3][..length.wrapping_neg() % 4])
    }
}

const HEADER: usize = 6 + 13 * 8;

#[cfg(test)]
mod tests {
    use super::*;

    /// Name, mode and data of each entry, read back as the format's description has it.
    fn entries(mut archive: &[u8]) -> Vec<(String, u32, Vec<u8>)> {
        let mut found = Vec::new();
        loop {
            let (header, rest) = archive.split_at(HEADER);
            assert_eq!(&header[..6], b"070701");
            let field = |index: usize| {
                let digits = &header[6 + index * 8..14 + index * 8];
                u32::from_str_radix(std::str::from_utf8(digits).unwrap(), 16).unwrap()
            };
            let (size, name_size) = (field(6) as usize, field(11) as usize);
            let name = String::from_utf8(rest[..name_size - 1].to_vec()).unwrap();
            assert_eq!(rest[name_size - 1], 0);
            let data = (HEADER + name_size).next_multiple_of(4);
            if name == "TRAILER!!!" {
                assert_eq!(archive.len(), data);
                return found;
            }
            found.push((name, field(1), archive[data..data + size].to_vec()));
            archive = &archive[(data + size).next_multiple_of(4)..];
        }
    }

    #[test]
    fn directories_come_before_what_is_in_them() {
        let mut archive = Archive::new(Vec::new());
        archive.program("/usr/bin/one", b"12345").unwrap();
        archive.link("/usr/bin/two", "one").unwrap();
        archive.file("/init", b"").unwrap();
        archive.program("/usr/bin/one", b"again").unwrap();
        let found = entries(&archive.finish().unwrap());
        let expected = [
            ("usr", DIRECTORY, &b""[..]),
            ("usr/bin", DIRECTORY, b""),
            ("usr/bin/one", PROGRAM, b"12345"),
            ("usr/bin/two", LINK, b"one"),
            ("init", FILE, b""),
        ];
        assert_eq!(
            found,
            expected.map(|(name, mode, data)| (name.to_owned(), mode, data.to_vec()))
        );
    }

    #[test]
    fn a_relative_path_is_refused() {
        let mut archive = Archive::new(Vec::new());
        assert!(archive.file("etc/hosts", b"").is_err());
    }
}
