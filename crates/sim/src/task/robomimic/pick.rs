//! Grasping something from above: what these tasks' plans begin with.

use bevy::math::{DQuat, DVec3};

use crate::expert::{Grip, PhaseClock, Reach};
use crate::task::ArmView;

/// Phases that a [`Pick`] takes: approach, descend, close.
pub(super) const PICK_PHASES: u32 = 3;

/// A grasp of something, along the hand's own axis.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pick {
    /// Where the grip site should be when the fingers close.
    pub(super) at: DVec3,
    /// How the hand should be turned.
    pub(super) hand: DQuat,
    /// From how far the hand comes, metres.
    pub(super) hover: f64,
    /// Height of the grip site on the way there.
    pub(super) travel: f64,
    /// A finger further closed than this holds nothing.
    pub(super) empty: f64,
}

impl Pick {
    /// Whether the fingers hold the thing.
    pub(super) fn held(&self, arm: &ArmView) -> bool {
        arm.fingers[0] > self.empty && arm.grip_site.distance(self.at) < 0.03
    }

    /// The next reach of a plan whose phases from `first` on are this grasp's; `None` in any other phase. A missed grasp
    /// begins anew, a good one goes on to the phase `first + PICK_PHASES`.
    pub(super) fn reach(&self, first: u32, arm: &ArmView, clock: &mut PhaseClock) -> Option<Reach> {
        let way = self.hand * DVec3::Z;
        let above = self.at - way * self.hover;
        let to_site = arm.grip_site - self.at;
        let aside = to_site.reject_from_normalized(way).length();
        let far = (arm.grip_site - above).truncate().length();
        let next = match clock.phase.checked_sub(first)? {
            0 => {
                let over = Reach::new(above, self.hand, Grip::Open).reached(arm, 0.03, 0.1);
                (over && aside < 0.008 && arm.fingers[0] > 0.033).then_some(first + 1)
            }
            1 if aside > 0.03 => Some(first),
            1 => Reach::new(self.at, self.hand, Grip::Open).reached(arm, 0.01, 0.12).then_some(first + 2),
            2 => (clock.steps >= 10).then_some(if self.held(arm) { first + PICK_PHASES } else { first }),
            _ => return None,
        };
        if let Some(phase) = next {
            clock.enter(phase);
        }
        Some(match clock.phase - first {
            // Up first, then sideways, then down.
            0 if far > 0.15 && arm.grip_site.z < self.travel - 0.03 => {
                Reach::new(arm.grip_site.with_z(self.travel), self.hand, Grip::Open)
            }
            0 if far > 0.05 => Reach::new(above.with_z(above.z.max(self.travel)), self.hand, Grip::Open),
            0 => Reach::new(above, self.hand, Grip::Open),
            // Slowly: an arm that falls fast is drawn aside, and a reach that is limited in speed goes straight.
            1 => {
                let left = -to_site.dot(way);
                let step = if aside < 0.015 || left > 0.06 { left.min(0.012) } else { 0.0 };
                Reach::new(self.at - way * (left - step), self.hand, Grip::Open)
            }
            2 => Reach::new(self.at, self.hand, Grip::Close),
            _ => Reach::new(arm.grip_site, self.hand, Grip::Close),
        })
    }
}
