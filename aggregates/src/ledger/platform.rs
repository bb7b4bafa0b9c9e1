//! Commands of the platform itself: the policy, and the closing of periods.

use crate::answer::Answer;
use crate::command::Command;
use crate::platform::{Platform, PlatformCommand};
use crate::rejection::Rejection;

use super::authority::forbidden;
use super::draft::{Decided, Draft};

impl Draft<'_> {
    pub(super) fn decide_platform(&mut self, command: &Command) -> Decided<Answer> {
        match command {
            Command::SetPolicy(policy) => {
                self.platform_only()?;
                self.order::<Platform>(&(), &PlatformCommand::SetPolicy(policy.clone()))?;
                Ok(Answer::Policy(self.policy()?.clone()))
            }
            Command::ClosePeriod(reckoning) => {
                if !self.actor().role.closes_periods() {
                    return Err(forbidden("this is the platform's or finance's to do").into());
                }
                let (now, head) = (self.now, self.position());
                self.order::<Platform>(&(), &PlatformCommand::ClosePeriod { reckoning: reckoning.clone(), now, head })?;
                Ok(Answer::Closing(Box::new(reckoning.closing.clone())))
            }
            _ => Err(Rejection::not_found("command").into()),
        }
    }
}
