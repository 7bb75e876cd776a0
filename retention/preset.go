package retention

// A Preset is a set of lengths that serves somebody's rule. It makes nobody
// compliant: it only sees to how long Gatehouse keeps what it has.
type Preset struct {
	Name    string
	Title   string
	Source  string // where the rule stands
	Says    string // what it says, shortly, and what it does not
	Lengths Lengths
}

// Presets lists the presets. A class that one does not name keeps its default.
func Presets() []Preset {
	events := func(k Keep) Lengths { return Lengths{Control: k, Access: k, Security: k, System: k} }
	return []Preset{
		{
			Name: "default", Title: "Gatehouse's own defaults", Source: "docs/retention.md",
			Says: "A year for changes and denials, 90 days for visits.", Lengths: Lengths{},
		},
		{
			Name: "pci-dss", Title: "PCI DSS: payment cards", Source: "PCI DSS v4.0, requirement 10.5.1",
			Says:    "Audit log history is kept for at least 12 months, the most recent 3 months immediately available. Everything that Gatehouse keeps is.",
			Lengths: events(366),
		},
		{
			Name: "hipaa", Title: "HIPAA: health data in the United States", Source: "45 CFR 164.316(b)(2)(i)",
			Says:    "Required documentation is kept for 6 years from its creation or from when it was last in effect. Whether logs are such documentation is for you to decide.",
			Lengths: Lengths{Control: 2192, Access: 2192, Security: 2192, System: 2192, Versions: 2192, LimitHistory: 2192},
		},
		{
			Name: "soc2", Title: "SOC 2: an audit period of a year", Source: "AICPA Trust Services Criteria (TSP section 100), CC7.2 and CC7.3",
			Says:    "The criteria name no length; reports of type 2 usually look at up to 12 months, and the auditor comes after them: 13 months.",
			Lengths: events(396),
		},
		{
			Name: "gdpr", Title: "GDPR: no longer than necessary", Source: "Regulation (EU) 2016/679, Article 5(1)(e)",
			Says:    "Personal data is kept no longer than is necessary for its purpose. The regulation names no length; these are short ones for you to weigh.",
			Lengths: Lengths{Control: 365, Security: 180, System: 180, Access: 30, Usage: 365, LimitHistory: 180, Versions: 180, Tests: 30, Expired: 180, Deliveries: 7, DeletedMembers: 7},
		},
		{
			Name: "m-21-31", Title: "United States federal agencies", Source: "OMB Memorandum M-21-31, Appendix C",
			Says:    "Logs are kept for 12 months in active and 18 months in cold storage: 30 months. Everything that Gatehouse keeps is in active storage.",
			Lengths: events(914),
		},
	}
}

// presetOf gives the preset of a name.
func presetOf(name string) (Preset, bool) {
	for _, p := range Presets() {
		if p.Name == name {
			return p, true
		}
	}
	return Preset{}, false
}
