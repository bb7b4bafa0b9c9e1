//! Commands of the platform itself: the policy.

use crate::answer::Answer;
use crate::command::Command;
use crate::platform::{Platform, PlatformCommand};
use crate::rejection::Rejection;

use super::draft::{Decided, Draft};

impl Draft<'_> {
    pub(super) fn decide_platform(&mut self, command: &Command) -> Decided<Answer> {
        let Command::SetPolicy(policy) = command else { return Err(Rejection::not_found("command").into()) };
        self.platform_only()?;
        self.order::<Platform>(&(), &PlatformCommand::SetPolicy(policy.clone()))?;
        Ok(Answer::Policy(self.policy()?.clone()))
    }
}
