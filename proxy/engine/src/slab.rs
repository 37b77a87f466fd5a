//! Storage with stable indices and generations, so that a late reply for something that is gone is
//! recognised instead of reaching its successor in the same place.

struct Entry<T> {
    generation: u32,
    value: Option<T>,
}

/// Names a value of a slab for good: once that is removed, no other answers to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Handle {
    pub index: u32,
    /// Tells an index's tenants apart.
    pub generation: u32,
}

/// Values by handle.
pub struct Slab<T> {
    entries: Vec<Entry<T>>,
    free: Vec<u32>,
}

impl Handle {
    /// Of no value.
    pub const NONE: Handle = Handle {
        index: u32::MAX,
        generation: 0,
    };
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Slab {
            entries: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl<T> Slab<T> {
    /// Stores a value.
    pub fn insert(&mut self, value: T) -> Handle {
        let (index, generation) = if let Some(index) = self.free.pop() {
            let entry = &mut self.entries[index as usize];
            entry.value = Some(value);
            (index, entry.generation)
        } else {
            self.entries.push(Entry {
                generation: 0,
                value: Some(value),
            });
            ((self.entries.len() - 1) as u32, 0)
        };
        Handle { index, generation }
    }

    /// The value, if it is still there.
    #[inline]
    pub fn get(&self, handle: Handle) -> Option<&T> {
        let entry = self.entries.get(handle.index as usize)?;
        if entry.generation == handle.generation {
            entry.value.as_ref()
        } else {
            None
        }
    }

    #[inline]
    pub fn get_mut(&mut self, handle: Handle) -> Option<&mut T> {
        let entry = self.entries.get_mut(handle.index as usize)?;
        if entry.generation == handle.generation {
            entry.value.as_mut()
        } else {
            None
        }
    }

    /// The value at an index known to be taken.
    #[inline]
    pub fn at(&mut self, index: u32) -> Option<&mut T> {
        self.entries.get_mut(index as usize)?.value.as_mut()
    }

    /// Of whatever is at an index.
    pub fn handle(&self, index: u32) -> Handle {
        let entry = self.entries.get(index as usize);
        let generation = entry.map_or(0, |entry| entry.generation);
        Handle { index, generation }
    }

    /// Takes the value out, if it is still there.
    pub fn remove(&mut self, handle: Handle) -> Option<T> {
        let entry = self.entries.get_mut(handle.index as usize)?;
        if entry.generation != handle.generation {
            return None;
        }
        let value = entry.value.take()?;
        entry.generation = entry.generation.wrapping_add(1);
        self.free.push(handle.index);
        Some(value)
    }

    /// Handles of all values.
    pub fn handles(&self) -> Vec<Handle> {
        let handle = |(index, entry): (usize, &Entry<T>)| {
            let (index, generation) = (index as u32, entry.generation);
            entry
                .value
                .is_some()
                .then_some(Handle { index, generation })
        };
        self.entries.iter().enumerate().filter_map(handle).collect()
    }

    pub fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
