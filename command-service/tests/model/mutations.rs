//! The protocol with one rule broken: each must have a counter-example.

/// A rule that is left out or bent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mutation {
    FirstInitAlone,
    NoSecondInit,
    SecondInitPlain,
    RestoreWithoutMarker,
    RestoreToLastMessage,
    RenewalByPlainInit,
    BarrierOvertakes,
    TwoInFlight,
    AnswerBeforeAck,
    RejectFromOverlay,
    NoBarrier,
    ResendWithNewSequence,
    ReinitWheneverFenced,
    FenceNotKeptAlive,
    /// That the first Init answered an epoch above 0 is taken for a proof that it fences the
    /// predecessor: the answer with epoch 0 may have been lost.
    TrustEpochAboveZero,
    /// The newest claim is not looked at.
    TrustAnyFirstInit,
    /// A claimed producer id that everybody has forgotten counts as one that may still append.
    DowntimeLocksOut,
    /// After a rotation the coordinator may repeat markers of the producer id before.
    OnlyWritersMarkers,
    /// The newest claim does not name the identity that a renewal has led to.
    RenewalWithoutClaim,
    /// A barrier, instead of a take-over, after a pause in which brokers forget producers.
    BarrierAfterLongPause,
    /// Who restores waits for its marker, however long it takes.
    WaitForEver,
}

/// What a node goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rules {
    /// Above this epoch a new producer id is fetched before serving.
    pub highest_epoch: i8,
    pub mutation: Option<Mutation>,
}

impl Rules {
    pub fn mutated(self, mutation: Mutation) -> bool {
        self.mutation == Some(mutation)
    }
}

#[cfg(test)]
mod tests {
    use stateright::{Checker, HasDiscoveries, Model};

    use super::Mutation;
    use crate::{
        properties::{ANSWERED, GAPLESS, KEPT, NO_ALARM, ONCE, PEACE, PROGRESS, TERMS, TRUE},
        scenarios::{self, Scenario},
        system::Shard,
    };

    /// The checker finds how one of these properties breaks.
    fn breaks(scenario: Scenario, mutation: Mutation, properties: &[&'static str]) {
        let checker = Shard::new(scenario, Some(mutation))
            .checker()
            .finish_when(HasDiscoveries::AnyOf(properties.iter().copied().collect()))
            .spawn_bfs()
            .join();
        let mut found = checker.discoveries();
        found.remove(ANSWERED);
        for (property, path) in &found {
            eprintln!("{property}: {:?}", path.clone().into_actions());
        }
        let broken = properties
            .iter()
            .any(|property| found.contains_key(property));
        assert!(broken, "{mutation:?} does no harm");
    }

    #[test]
    fn one_init_alone_does_not_fence() {
        breaks(
            scenarios::failover(),
            Mutation::FirstInitAlone,
            &[GAPLESS, TRUE],
        );
    }

    #[test]
    fn without_the_second_init_a_used_up_id_stays_unfenced() {
        breaks(scenarios::rotation(), Mutation::NoSecondInit, &[NO_ALARM]);
    }

    #[test]
    fn a_second_init_that_expects_nobody_steals() {
        breaks(
            scenarios::contention(),
            Mutation::SecondInitPlain,
            &[GAPLESS, TRUE, NO_ALARM],
        );
    }

    #[test]
    fn an_old_leader_restores_an_old_state() {
        breaks(
            scenarios::failover(),
            Mutation::RestoreWithoutMarker,
            &[TRUE],
        );
    }

    #[test]
    fn the_last_message_is_not_the_end() {
        breaks(
            scenarios::failover(),
            Mutation::RestoreToLastMessage,
            &[GAPLESS, TRUE],
        );
    }

    #[test]
    fn a_renewal_by_a_plain_init_steals() {
        breaks(
            scenarios::renewal(),
            Mutation::RenewalByPlainInit,
            &[GAPLESS, TRUE],
        );
    }

    #[test]
    fn a_barrier_waits_for_what_its_answers_saw() {
        breaks(scenarios::throughput(), Mutation::BarrierOvertakes, &[TRUE]);
    }

    #[test]
    fn of_two_batches_in_flight_a_restarted_broker_knows_one() {
        breaks(scenarios::throughput(), Mutation::TwoInFlight, &[NO_ALARM]);
    }

    #[test]
    fn an_answer_before_the_acknowledgement_may_be_a_lie() {
        breaks(
            scenarios::failover(),
            Mutation::AnswerBeforeAck,
            &[TRUE, KEPT],
        );
    }

    #[test]
    fn a_rejection_from_the_overlay_may_be_a_lie() {
        breaks(
            scenarios::throughput(),
            Mutation::RejectFromOverlay,
            &[TRUE],
        );
    }

    #[test]
    fn without_a_barrier_a_deposed_owner_answers() {
        breaks(scenarios::failover(), Mutation::NoBarrier, &[TRUE]);
    }

    #[test]
    fn a_resend_with_a_new_sequence_number_appends_twice() {
        breaks(
            scenarios::failover(),
            Mutation::ResendWithNewSequence,
            &[ONCE],
        );
    }

    #[test]
    fn who_takes_over_whenever_fenced_never_stops() {
        breaks(
            scenarios::reassignment(),
            Mutation::ReinitWheneverFenced,
            &[PEACE],
        );
    }

    #[test]
    fn a_forgotten_fence_lets_a_zombie_write() {
        breaks(
            scenarios::long_sleep(),
            Mutation::FenceNotKeptAlive,
            &[GAPLESS, TERMS],
        );
    }

    #[test]
    fn an_epoch_above_zero_does_not_prove_a_fence() {
        breaks(
            scenarios::used_up_id(),
            Mutation::TrustEpochAboveZero,
            &[GAPLESS, TERMS, TRUE],
        );
    }

    #[test]
    fn an_unread_claim_leaves_a_predecessor_unfenced() {
        breaks(
            scenarios::used_up_id(),
            Mutation::TrustAnyFirstInit,
            &[GAPLESS, TERMS, TRUE],
        );
    }

    #[test]
    fn a_week_of_downtime_locks_nobody_out() {
        breaks(
            scenarios::long_sleep(),
            Mutation::DowntimeLocksOut,
            &[NO_ALARM],
        );
    }

    #[test]
    fn markers_of_the_id_before_a_rotation_are_our_own() {
        breaks(
            scenarios::rotation(),
            Mutation::OnlyWritersMarkers,
            &[NO_ALARM],
        );
    }

    #[test]
    fn a_renewal_claims_again() {
        breaks(
            scenarios::used_up_id(),
            Mutation::RenewalWithoutClaim,
            &[GAPLESS, TERMS, TRUE],
        );
    }

    #[test]
    fn who_waits_for_a_lost_marker_waits_for_ever() {
        breaks(
            scenarios::lost_markers(),
            Mutation::WaitForEver,
            &[PROGRESS],
        );
    }

    #[test]
    fn after_a_long_pause_a_barrier_proves_nothing() {
        breaks(
            scenarios::long_sleep(),
            Mutation::BarrierAfterLongPause,
            &[NO_ALARM],
        );
    }
}
