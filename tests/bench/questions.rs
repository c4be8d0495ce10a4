//! In which order names are asked for.

use std::rc::Rc;

use crate::names::{self, Question};
use crate::random::Random;
use crate::zone;

/// A set of questions that are asked again and again. Servers share it.
#[derive(Clone)]
pub struct Set {
    questions: Rc<[Question]>,
    /// The share of all queries that goes to a question and those before it; empty where all are equally popular.
    popularity: Rc<[f64]>,
}

impl Set {
    /// All equally popular.
    pub fn even(questions: Vec<Question>) -> Self {
        Self { questions: questions.into(), popularity: Rc::new([]) }
    }

    /// Question n is asked 1/n as often as the first (Zipf's law, exponent 1: about what resolvers see).
    pub fn zipf(questions: Vec<Question>) -> Self {
        let mut sum = 0.0;
        let mut popularity: Vec<f64> = (1..=questions.len())
            .map(|n| {
                sum += 1.0 / n as f64;
                sum
            })
            .collect();
        popularity.iter_mut().for_each(|share| *share /= sum);
        Self { questions: questions.into(), popularity: popularity.into() }
    }

    /// The same questions as the echo answers them: with nothing.
    pub fn echoed(&self) -> Self {
        let mut questions = self.questions.to_vec();
        for question in &mut questions {
            (question.rcode, question.answers) = (zone::NOERROR, 0);
        }
        Self { questions: questions.into(), popularity: Rc::clone(&self.popularity) }
    }

    /// The questions.
    pub fn questions(&self) -> &[Question] {
        &self.questions
    }

    /// One of them, by chance.
    fn choose(&self, random: &mut Random) -> &Question {
        if self.popularity.is_empty() {
            return &self.questions[random.below(self.questions.len())];
        }
        let share = random.share();
        let index = self.popularity.partition_point(|&up_to| up_to <= share);
        &self.questions[index.min(self.questions.len() - 1)]
    }
}

/// Where the load takes its next question from.
pub struct Questions {
    /// What is asked again and again.
    set: Set,
    /// Questions that remain to be asked in order, so that all get warm.
    in_order: usize,
    /// The share of new questions, 0 to 1.
    share_of_new: f64,
    /// How many new ones were asked.
    asked_new: u64,
    /// The last new one.
    new: Question,
    random: Random,
}

impl Questions {
    /// First the whole set in order, then by chance; a share of `share_of_new` (0 to 1) is new each time.
    pub fn new(set: Set, share_of_new: f64) -> Self {
        let new = Question::default();
        Self { in_order: set.questions.len(), set, share_of_new, asked_new: 0, new, random: Random::new() }
    }

    /// Nothing but new questions.
    pub fn all_new() -> Self {
        Self::new(Set::even(Vec::new()), 1.0)
    }

    /// How many questions it takes until the set is warm.
    pub fn cold(&self) -> usize {
        self.in_order
    }

    /// The next question.
    pub fn next(&mut self) -> &Question {
        if self.in_order > 0 {
            let index = self.set.questions.len() - self.in_order;
            self.in_order -= 1;
            return &self.set.questions[index];
        }
        if self.share_of_new > 0.0 && self.random.share() < self.share_of_new {
            names::make_new(&mut self.new, self.asked_new);
            self.asked_new += 1;
            return &self.new;
        }
        self.set.choose(&mut self.random)
    }
}
