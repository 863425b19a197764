//! Man pages and shell completions, made from the definition of the command line, so that they are never older than it.

use crate::cli::Cli;
use clap::{Command, CommandFactory, ValueEnum};
use clap_complete::Shell;
use std::io;
use std::path::Path;

/// Writes a man page for each command to `folder/man1`, and completions for each shell to `folder/completions`.
pub fn generate(folder: &Path) -> io::Result<()> {
    let (pages, completions) = (folder.join("man1"), folder.join("completions"));
    std::fs::create_dir_all(&pages)?;
    std::fs::create_dir_all(&completions)?;
    clap_mangen::generate_to(shown(), &pages)?;
    for shell in Shell::value_variants() {
        clap_complete::generate_to(*shell, &mut shown(), "psexec-filter", &completions)?;
    }
    Ok(())
}

/// The command line without its hidden commands, which completions would offer.
fn shown() -> Command {
    let all = Cli::command();
    let visible = all
        .get_subcommands()
        .filter(|command| !command.is_hide_set());
    Command::new("psexec-filter")
        .about(all.get_about().cloned().unwrap_or_default())
        .version(env!("CARGO_PKG_VERSION"))
        .subcommand_required(true)
        .subcommands(visible.cloned().collect::<Vec<_>>())
}
