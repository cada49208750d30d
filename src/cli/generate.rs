//! Completions and man pages, from the same words as the help.

use std::fs;
use std::path::{Path, PathBuf};

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgMatches, Command};
use clap_complete::Shell;

use super::Session;
use super::commands;
use super::error::Error;

pub(super) fn describe_completions() -> Command {
    Command::new("completions")
        .about("print what a shell needs to complete these commands")
        .arg(
            Arg::new("SHELL")
                .required(true)
                .value_parser(PossibleValuesParser::new(["bash", "zsh", "fish"]))
                .help("the shell"),
        )
        .after_help(
            "Examples:\n  linkspan completions bash > /usr/share/bash-completion/completions/linkspan\n  \
             linkspan completions zsh > /usr/share/zsh/site-functions/_linkspan\n  \
             linkspan completions fish > /usr/share/fish/vendor_completions.d/linkspan.fish",
        )
}

pub(super) fn completions(session: &mut Session<'_>, matches: &ArgMatches) -> Result<(), Error> {
    let shell = match matches.get_one::<String>("SHELL").map(String::as_str) {
        Some("zsh") => Shell::Zsh,
        Some("fish") => Shell::Fish,
        _ => Shell::Bash,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut commands::tree(), "linkspan", &mut script);
    Ok(session.stdout.write_all(&script)?)
}

pub(super) fn describe_man() -> Command {
    Command::new("man")
        .about("write the man pages into a directory")
        .arg(Arg::new("DIRECTORY").required(true).help("where; it is made where it is missing"))
        .after_help("Example:\n  linkspan man /usr/local/share/man/man1")
}

pub(super) fn man(session: &mut Session<'_>, matches: &ArgMatches) -> Result<(), Error> {
    let directory = matches.get_one::<String>("DIRECTORY").map(PathBuf::from).unwrap_or_default();
    let failed = |action, path: &Path| {
        let path = path.to_owned();
        move |source| Error::File { action, path, source }
    };
    fs::create_dir_all(&directory).map_err(failed("create", &directory))?;
    for (name, page) in pages()? {
        let path = directory.join(name);
        fs::write(&path, page).map_err(failed("write", &path))?;
        writeln!(session.stdout, "{}", path.display())?;
    }
    Ok(())
}

/// `linkspan.1` and one page a command, by file name.
fn pages() -> Result<Vec<(String, Vec<u8>)>, Error> {
    let mut tree = commands::tree();
    tree.build();
    let mut pages = Vec::new();
    for command in std::iter::once(&tree).chain(tree.get_subcommands()) {
        let name = match command.get_name() {
            "linkspan" => "linkspan".to_owned(),
            other => format!("linkspan-{other}"),
        };
        let command = command.clone().display_name(name.clone());
        let mut page = Vec::new();
        clap_mangen::Man::new(command).render(&mut page)?;
        pages.push((format!("{name}.1"), page));
    }
    Ok(pages)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page_that_names_its_options() {
        let pages = pages().unwrap();
        assert_eq!(pages.len(), commands::SUBCOMMANDS.len() + 1);
        for (name, page) in pages {
            let text = String::from_utf8(page).unwrap();
            assert!(text.contains(".SH NAME") && text.contains(".SH SYNOPSIS"), "{name}: {text}");
            if name == "linkspan-ps.1" {
                assert!(text.contains("network") && text.contains("Examples"), "{text}");
            }
        }
    }
}
