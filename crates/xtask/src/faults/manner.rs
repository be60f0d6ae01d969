//! How a backend of the measurement treats connections and requests.

/// How a backend treats connections and requests.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    Good,
    /// Closes its listener and all connections.
    Refuses,
    /// Resets the connection within the head of each response.
    BreaksHead,
    /// Resets the connection within the content of every third response.
    BreaksThirdBody,
    /// Answers 500.
    Fails,
    /// Answers 500 to three of ten requests.
    FailsThreeOfTen,
    /// Takes 20 times as long.
    Slow,
    /// Works on ten requests at a time, for 50 ms each.
    Busy,
}

impl Manner {
    const ALL: [Manner; 8] = [
        Manner::Good,
        Manner::Refuses,
        Manner::BreaksHead,
        Manner::BreaksThirdBody,
        Manner::Fails,
        Manner::FailsThreeOfTen,
        Manner::Slow,
        Manner::Busy,
    ];

    pub(super) fn name(self) -> String {
        format!("{self:?}")
    }

    pub(super) fn named(name: &str) -> Option<Manner> {
        Self::ALL.into_iter().find(|manner| manner.name() == name)
    }

    pub(super) fn numbered(number: u32) -> Manner {
        Self::ALL.into_iter().find(|manner| *manner as u32 == number).unwrap_or(Manner::Good)
    }
}
