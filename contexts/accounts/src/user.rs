//! A user: registered once for an address, with one role.

use kernel::{Decider, Meta};
use serde::{Deserialize, Serialize};

use crate::{Email, PersonName, Role};

/// A user as the rules see them. The stream's id follows from the address, so
/// that an address is registered once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum User {
    #[default]
    Unknown,
    Registered,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum UserCommand {
    Register {
        email: Email,
        name: PersonName,
        role: Role,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum UserEvent {
    UserRegistered {
        email: String,
        name: String,
        role: Role,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UserRejection {
    #[error("a user with this address is registered already")]
    EmailTaken,
}

impl Decider for User {
    const KIND: &'static str = "user";
    type Command = UserCommand;
    type Event = UserEvent;
    type Rejection = UserRejection;

    fn decide(&self, command: &UserCommand, _: &Meta) -> Result<Vec<UserEvent>, UserRejection> {
        let UserCommand::Register { email, name, role } = command;
        match self {
            User::Unknown => Ok(vec![UserEvent::UserRegistered {
                email: email.as_str().to_owned(),
                name: name.as_str().to_owned(),
                role: *role,
            }]),
            User::Registered => Err(UserRejection::EmailTaken),
        }
    }

    fn evolve(&mut self, event: &UserEvent) {
        *self = match event {
            UserEvent::UserRegistered { .. } => User::Registered,
        }
    }
}

impl kernel::Rejection for UserRejection {
    fn code(&self) -> &'static str {
        match self {
            Self::EmailTaken => "email-taken",
        }
    }
}

#[cfg(test)]
mod tests {
    use kernel::given;

    use super::*;

    fn register(role: Role) -> UserCommand {
        UserCommand::Register {
            email: Email::parse("Ada@Example.org").unwrap(),
            name: PersonName::parse("Ada").unwrap(),
            role,
        }
    }

    fn registered(role: Role) -> UserEvent {
        UserEvent::UserRegistered {
            email: "ada@example.org".into(),
            name: "Ada".into(),
            role,
        }
    }

    #[test]
    fn a_user_is_registered_with_the_role_that_was_asked_for() {
        // An earlier system seeded an accountant as a manager.
        for role in [Role::Admin, Role::Manager, Role::Accountant, Role::Worker] {
            given::<User>([])
                .when(register(role))
                .then([registered(role)]);
        }
    }

    #[test]
    fn an_address_is_registered_once() {
        given::<User>([registered(Role::Worker)])
            .when(register(Role::Manager))
            .then_rejected(UserRejection::EmailTaken);
    }
}
