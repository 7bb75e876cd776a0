package api

// Scope is what a credential may be used for. A list that is left out bounds
// nothing, but for Paths, whose place the service's default takes.
type Scope struct {
	Methods []string `json:"methods,omitempty" nullable:"false" doc:"HTTP methods; GET lets HEAD pass too" example:"[\"GET\",\"POST\"]"`
	Paths   []string `json:"paths,omitempty" nullable:"false" doc:"Patterns on the provider's path, each with a method in front where one is meant: * is any text within a segment, ** as the last segment any rest. Left out: the service's defaultScope" example:"[\"POST /v1/chat/completions\",\"GET /v1/models/*\"]"`
	Models  []string `json:"models,omitempty" nullable:"false" doc:"Names of models, in which * is any text; a request that is no GET must then name one" example:"[\"gpt-4o*\"]"`
	Members []string `json:"members,omitempty" nullable:"false" doc:"Ids of members who may use it, beside those with one of the roles"`
	Roles   []string `json:"roles,omitempty" nullable:"false" doc:"Roles whose holders may use it, beside the members" example:"[\"developer\"]"`
}
