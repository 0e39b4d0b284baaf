//! `demo`.

use super::serve::shutdown_on_signal;
use super::{Found, Outcome};
use crate::config::Flags;
use crate::demo;

#[allow(clippy::print_stdout, reason = "address and token are what somebody waits for")]
pub(super) async fn demo(flags: &Flags) -> Outcome {
    let welcome = |welcome: &demo::Welcome| {
        println!();
        println!("  callvault demo    {}", welcome.address);
        println!("  sign in (once)    {}", welcome.sign_in);
        println!("  token (admin)     {}", welcome.token);
        println!("  data              {}", welcome.data_dir.display());
        println!();
    };
    demo::demo(flags, shutdown_on_signal()?, welcome, |line| println!("  {line}")).await?;
    Ok(Found::Nothing)
}
