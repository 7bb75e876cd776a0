package api

// LimitStatus is where one subject stands.
type LimitStatus struct {
	Type          string  `json:"type" enum:"ip,org"`
	Key           string  `json:"key"`
	Limit         int     `json:"limit"`
	Used          int     `json:"used"`
	Remaining     int     `json:"remaining"`
	WindowSeconds float64 `json:"windowSeconds"`
	ResetAt       *Time   `json:"resetAt" doc:"When full: the first instant at which it admits again; otherwise when its oldest counted request comes free"`
}

// LimitOverview is where the caller's own address and organization stand.
type LimitOverview struct {
	IP           LimitStatus `json:"ip"`
	Organization LimitStatus `json:"organization"`
	Store        string      `json:"store" enum:"memory,redis"`
	Degraded     bool        `json:"degraded" doc:"Decisions come from this instance's memory because Redis is away"`
}

// LimitReset asks for a subject's counts to be dropped.
type LimitReset struct {
	Type string `json:"type" doc:"ip or org (organization is accepted too)" example:"ip"`
	Key  string `json:"key" doc:"An address, or an organization's id" example:"203.0.113.7"`
}
