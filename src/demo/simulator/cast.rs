//! Who calls whom: agents, customers and business numbers, all invented, the same for the same seed.

use std::collections::HashSet;

use fastrand::Rng;

/// Customers in a cast.
pub const CUSTOMERS: usize = 300;

/// DoubleTick names an agent by phone number or by display name, depending on where the agent took the call.
const AGENTS: [(&str, &str, bool); 12] = [
    ("Farhan Siddiqui", "919820455667", true),
    ("Leela Nair", "919833344556", false),
    ("Rohan Deshpande", "919819077321", true),
    ("Kavita Iyer", "919867712045", false),
    ("Imran Shaikh", "919702388114", true),
    ("Sunita Rawat", "919930561278", false),
    ("Joseph D'Souza", "919821946630", true),
    ("Harpreet Kaur", "919876023415", false),
    ("नेहा जोशी", "919769040582", true),
    ("Arvind Subramanian", "919884317706", false),
    ("Priyanka Banerjee", "919831250947", true),
    ("Tenzin Dorjee", "919816634098", true),
];

const GIVEN: &str = "Aarav Aditi Ajay Amit Anjali Arjun Asha Bhavna Chetan Deepak Divya Fatima Ganesh \
    Geeta Gurpreet Hari Ishaan Jaya Karthik Kiran Lakshmi Mahesh Manish Meena Mohammed \
    Naveen Nisha Pooja Pranav Rahul Rajesh Rekha Ritu Sameer Sandeep Sara Shreya Suresh \
    Swati Thomas Usha Varun Vikram Zoya";

const SURNAMES: &str = "Agarwal Ahmed Bhat Bose Chatterjee Chauhan Chopra Das Dubey Fernandes Gaikwad Gill \
    Gowda Gupta Hegde Jain Kamble Khan Krishnan Kumar Lobo Malhotra Mehta Menon Mishra \
    Mukherjee Naidu Pandey Patel Patil Pillai Qureshi Rao Reddy Saxena Shah Singh Thakur \
    Varghese Yadav";

const GIVEN_DEVANAGARI: &str = "अमित अनीता दीपक गीता कविता महेश नेहा पूजा राहुल रेखा संजय सुनीता विकास ज़ोया";

const SURNAMES_DEVANAGARI: &str = "अग्रवाल चौहान गुप्ता जोशी कुलकर्णी मिश्रा पाटील राठौड़ सिंह श्रीवास्तव वर्मा यादव";

/// An employee of the business who makes and takes calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agent {
    pub name: &'static str,
    /// Digits with country code, no `+`.
    pub number: &'static str,
    pub user_id: String,
    /// Whether DoubleTick names this agent by display name; otherwise by number.
    pub by_name: bool,
}

impl Agent {
    /// What stands in `pickedBy`, `rejectedBy` and `endedBy`.
    pub fn label(&self) -> &'static str {
        if self.by_name { self.name } else { self.number }
    }
}

/// A customer, with the one conversation that they have with the business.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Customer {
    pub name: String,
    /// Digits with country code, no `+`.
    pub number: String,
    pub id: String,
    pub chat_id: String,
    /// The business number that they write to.
    pub waba: &'static str,
}

/// Everybody who appears in the demo.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cast {
    pub agents: Vec<Agent>,
    pub customers: Vec<Customer>,
}

impl Cast {
    /// The WhatsApp Business numbers.
    pub const WABAS: [&str; 2] = ["912240001234", "912240005678"];
    /// The business's ordinary phone number, for PSTN calls.
    pub const PSTN_CHANNEL: &str = "+912240009999";

    /// The same cast for the same seed. The first two customers, who call most often, are always Ananya Kulkarni and
    /// मीरा शर्मा.
    pub fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let agents = AGENTS
            .iter()
            .map(|&(name, number, by_name)| Agent {
                name,
                number,
                user_id: format!("user_{}", token(&mut rng, 4)),
                by_name,
            })
            .collect();
        Self { agents, customers: customers(&mut rng) }
    }

    pub fn agent(&self, rng: &mut Rng) -> &Agent {
        &self.agents[rng.usize(..self.agents.len())]
    }

    /// A customer, those at the front more often than those at the back: a few clients make most of the calls.
    pub fn customer(&self, rng: &mut Rng) -> &Customer {
        let nearer = rng.usize(..self.customers.len()).min(rng.usize(..self.customers.len()));
        &self.customers[nearer]
    }
}

fn customers(rng: &mut Rng) -> Vec<Customer> {
    let known = [("Ananya Kulkarni", "919820011223"), ("मीरा शर्मा", "919769955441")];
    let mut taken: HashSet<String> = AGENTS.iter().map(|agent| agent.1.to_owned()).collect();
    let mut all = Vec::with_capacity(CUSTOMERS);
    for (name, number) in known {
        taken.insert(number.to_owned());
        all.push(customer(rng, name.to_owned(), number.to_owned()));
    }
    while all.len() < CUSTOMERS {
        // Indian mobile numbers begin with 6 to 9.
        let number = format!("91{}{:09}", rng.u8(6..=9), rng.u32(..1_000_000_000));
        if taken.insert(number.clone()) {
            let name = full_name(rng);
            all.push(customer(rng, name, number));
        }
    }
    all
}

fn customer(rng: &mut Rng, name: String, number: String) -> Customer {
    Customer {
        name,
        number,
        id: format!("customer_{}", token(rng, 10)),
        chat_id: format!("chat_{}", token(rng, 8)),
        waba: Cast::WABAS[usize::from(rng.u8(..4) == 0)],
    }
}

fn full_name(rng: &mut Rng) -> String {
    let (given, surnames) = if rng.u8(..7) == 0 { (GIVEN_DEVANAGARI, SURNAMES_DEVANAGARI) } else { (GIVEN, SURNAMES) };
    format!("{} {}", word(rng, given), word(rng, surnames))
}

/// One word of a list that is never empty.
fn word(rng: &mut Rng, list: &'static str) -> &'static str {
    rng.choice(list.split_whitespace().collect::<Vec<_>>()).unwrap_or_default()
}

/// Letters and digits, as in DoubleTick's ids.
pub fn token(rng: &mut Rng, length: usize) -> String {
    (0..length).map(|_| rng.alphanumeric()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_seed_same_cast() {
        assert_eq!(Cast::new(7), Cast::new(7));
        assert_ne!(Cast::new(7), Cast::new(8));
    }

    #[test]
    fn customers_have_distinct_indian_mobile_numbers() {
        let cast = Cast::new(1);
        let numbers: HashSet<&str> = cast.customers.iter().map(|customer| customer.number.as_str()).collect();
        assert_eq!(numbers.len(), CUSTOMERS);
        for number in numbers {
            assert_eq!(number.len(), 12, "{number}");
            assert!(number.starts_with("91") && (b'6'..=b'9').contains(&number.as_bytes()[2]), "{number}");
            assert!(number.bytes().all(|byte| byte.is_ascii_digit()), "{number}");
        }
    }

    #[test]
    fn both_scripts_and_both_ways_to_name_an_agent_occur() {
        let cast = Cast::new(1);
        assert_eq!(cast.customers[0].name, "Ananya Kulkarni");
        assert_eq!(cast.customers[0].number, "919820011223");
        assert_eq!(cast.customers[1].name, "मीरा शर्मा");
        assert_eq!(cast.customers[1].number, "919769955441");
        let devanagari = cast.customers.iter().filter(|customer| !customer.name.is_ascii()).count();
        assert!((15..100).contains(&devanagari), "{devanagari}");
        let labels: Vec<&str> = cast.agents.iter().map(Agent::label).collect();
        assert!(labels.contains(&"Farhan Siddiqui") && labels.contains(&"919833344556"), "{labels:?}");
    }
}
