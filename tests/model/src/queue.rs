//! What is still to be done for one writer, in order; an empty place is the default.

/// Writes under way to T per writer, at most.
const PLACES: usize = 2;

#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Queue<P>([P; PLACES]);

impl<P: Copy + Default + PartialEq> Queue<P> {
    pub fn front(&self) -> P {
        self.0[0]
    }

    pub fn set_front(&mut self, part: P) {
        self.0[0] = part;
    }

    pub fn is_empty(&self) -> bool {
        self.0[0] == P::default()
    }

    pub fn has_room(&self) -> bool {
        self.0[PLACES - 1] == P::default()
    }

    pub fn push(&mut self, part: P) {
        let free = self.0.iter().position(|each| *each == P::default());
        self.0[free.expect("looked at before")] = part;
    }

    pub fn shift(&mut self) {
        self.0.rotate_left(1);
        self.0[PLACES - 1] = P::default();
    }
}
