//! Storage with stable indices and generations, so that a late reply for something that is gone is
//! recognised instead of reaching its successor in the same place.

struct Entry<T> {
    generation: u32,
    value: Option<T>,
}

/// Values by index; `generation` tells an index's tenants apart.
pub struct Slab<T> {
    entries: Vec<Entry<T>>,
    free: Vec<u32>,
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
    /// Stores a value; returns its index and generation.
    pub fn insert(&mut self, value: T) -> (u32, u32) {
        if let Some(index) = self.free.pop() {
            let entry = &mut self.entries[index as usize];
            entry.value = Some(value);
            (index, entry.generation)
        } else {
            self.entries.push(Entry {
                generation: 0,
                value: Some(value),
            });
            ((self.entries.len() - 1) as u32, 0)
        }
    }

    /// The value, if it is still the one of that generation.
    #[inline]
    pub fn get(&self, index: u32, generation: u32) -> Option<&T> {
        let entry = self.entries.get(index as usize)?;
        if entry.generation == generation {
            entry.value.as_ref()
        } else {
            None
        }
    }

    #[inline]
    pub fn get_mut(&mut self, index: u32, generation: u32) -> Option<&mut T> {
        let entry = self.entries.get_mut(index as usize)?;
        if entry.generation == generation {
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

    /// Generation of whatever is at an index.
    pub fn generation(&self, index: u32) -> u32 {
        self.entries
            .get(index as usize)
            .map_or(0, |entry| entry.generation)
    }

    pub fn remove(&mut self, index: u32) -> Option<T> {
        let entry = self.entries.get_mut(index as usize)?;
        let value = entry.value.take()?;
        entry.generation = entry.generation.wrapping_add(1);
        self.free.push(index);
        Some(value)
    }

    /// Indices and generations of all values.
    pub fn keys(&self) -> Vec<(u32, u32)> {
        let taken =
            |(i, e): (usize, &Entry<T>)| e.value.is_some().then_some((i as u32, e.generation));
        self.entries.iter().enumerate().filter_map(taken).collect()
    }

    pub fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
