//! The address of the search page is its state: what stands in it, and the addresses that differ by one filter. Pure.

/// The value of `flag` on the page that stands for any open flag; the API says `flag_state=open` for it.
pub(super) const ANY_FLAG: &str = "any";

/// Parameters that are no filters.
const NO_FILTERS: [&str; 4] = ["sort", "limit", "cursor", "facets"];

/// The parameters that say anything, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Query {
    pairs: Vec<(String, String)>,
}

impl Query {
    pub(super) fn parse(query: &str) -> Self {
        let pairs = url::form_urlencoded::parse(query.as_bytes());
        let said = pairs.filter(|(_, value)| !value.trim().is_empty());
        Self { pairs: said.map(|(name, value)| (name.into_owned(), value.into_owned())).collect() }
    }

    pub(super) fn first(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    pub(super) fn all<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        self.pairs.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn has(&self, name: &str, value: &str) -> bool {
        self.all(name).any(|known| known == value)
    }

    /// Name and value of every filter, `q` among them.
    pub(super) fn filters(&self) -> impl Iterator<Item = (&str, &str)> {
        let pairs = self.pairs.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        pairs.filter(|(name, _)| !NO_FILTERS.contains(name))
    }

    /// What a form has to carry along that shows `shown` itself, each with one value.
    pub(super) fn hidden(&self, shown: &[&str]) -> Vec<(String, String)> {
        let mut seen: Vec<&str> = vec!["cursor"];
        let mut hidden = Vec::new();
        for (name, value) in &self.pairs {
            let visible = shown.contains(&name.as_str()) && !seen.contains(&name.as_str());
            if !visible && name != "cursor" {
                hidden.push((name.clone(), value.clone()));
            }
            seen.push(name);
        }
        hidden
    }

    /// With one more value of a filter.
    pub(super) fn with(&self, name: &str, value: &str) -> Self {
        let mut query = self.without_all(&["cursor"]);
        query.pairs.push((name.to_owned(), value.to_owned()));
        query
    }

    /// With this value of a parameter and no other.
    pub(super) fn only(&self, name: &str, value: &str) -> Self {
        self.without_all(&[name]).with(name, value)
    }

    /// Without one value of a filter.
    pub(super) fn without(&self, name: &str, value: &str) -> Self {
        let mut query = self.without_all(&["cursor"]);
        query.pairs.retain(|(known, other)| known != name || other != value);
        query
    }

    pub(super) fn without_all(&self, names: &[&str]) -> Self {
        let kept = self.pairs.iter().filter(|(name, _)| name != "cursor" && !names.contains(&name.as_str()));
        Self { pairs: kept.cloned().collect() }
    }

    /// The search page with this state.
    pub(super) fn href(&self) -> String {
        match self.pairs.is_empty() {
            true => "/".to_owned(),
            false => format!("/?{}", encoded(&self.pairs)),
        }
    }

    /// The query string with which the API finds the same calls.
    pub(super) fn for_api(&self) -> String {
        let mut pairs = self.pairs.clone();
        let flagged = pairs.iter().any(|(name, _)| name == "flag");
        pairs.retain(|(name, value)| name != "flag" || value != ANY_FLAG);
        // On the page a flag is one that somebody still has to look at.
        if flagged && !pairs.iter().any(|(name, _)| name == "flag_state") {
            pairs.push(("flag_state".into(), "open".into()));
        }
        encoded(&pairs)
    }
}

fn encoded(pairs: &[(String, String)]) -> String {
    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_changes_by_one_filter() {
        let query = Query::parse("q=&status=ended&status=missed&cursor=abc&sort=duration&agent=D%27Souza+%26+Co");
        assert_eq!(query.href(), "/?status=ended&status=missed&cursor=abc&sort=duration&agent=D%27Souza+%26+Co");
        assert_eq!(query.without("status", "ended").href(), "/?status=missed&sort=duration&agent=D%27Souza+%26+Co");
        assert_eq!(query.only("status", "failed").without_all(&["agent"]).href(), "/?sort=duration&status=failed");
        assert_eq!(Query::parse("q=a").without("q", "a").href(), "/");
        assert_eq!(query.filters().count(), 3);
    }

    #[test]
    fn a_form_loses_nothing() {
        let query = Query::parse("status=ended&status=missed&min_duration=5&cursor=x&sort=duration");
        let expected = [("status", "missed"), ("min_duration", "5"), ("sort", "duration")];
        assert_eq!(query.hidden(&["q", "status"]), expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn a_flag_on_the_page_is_an_open_one() {
        assert_eq!(Query::parse("flag=any").for_api(), "flag_state=open");
        assert_eq!(Query::parse("flag=short_call").for_api(), "flag=short_call&flag_state=open");
        assert_eq!(
            Query::parse("flag=short_call&flag_state=resolved").for_api(),
            "flag=short_call&flag_state=resolved"
        );
    }
}
