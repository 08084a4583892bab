//! Authorizing: may this client reach that target? Before anything is resolved or dialled.

use super::account::Account;
use crate::http::answer::Answer;
use crate::http::proxy_status::{ErrorType, Side};
use crate::origin::Origin;
use crate::policy::{Decision, Reason};
use crate::target::Target;
use crate::worker::Snapshot;

/// Decides by name, port, identity and literal address.
///
/// # Errors
/// 403 with the reason.
pub fn target(snapshot: &Snapshot, account: &Account, target: &Target) -> Result<(), Answer> {
    let decision = snapshot.policy.check_target(target, &account.identities());
    account.decided(decision);
    if decision.allowed {
        Ok(())
    } else {
        Err(refusal(&decision))
    }
}

/// Decides on requests for a manager: the operator has named it, so that only a deny rule refuses them.
///
/// # Errors
/// 403 with the reason.
pub fn origin(snapshot: &Snapshot, account: &Account, origin: &Origin) -> Result<(), Answer> {
    let decision = snapshot
        .policy
        .check_origin(&origin.target, &account.identities());
    account.decided(decision);
    if decision.allowed {
        Ok(())
    } else {
        Err(refusal(&decision))
    }
}

/// 403: what policy does not allow.
#[must_use]
pub fn refusal(decision: &Decision) -> Answer {
    let error = match decision.reason {
        Reason::SpecialAddress { .. } | Reason::DeniedAddress { .. } => {
            ErrorType::DestinationIpProhibited
        }
        _ => ErrorType::HttpRequestDenied,
    };
    Answer::new(
        403,
        error,
        Side::Configuration,
        format!("policy refuses it: {}", decision.reason),
    )
}
