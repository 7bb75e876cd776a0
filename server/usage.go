package server

import (
	"bytes"
	"context"
	"encoding/csv"
	"mime"
	"net/http"
	"reflect"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/api"
	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/gateway"
	"github.com/gatehouse-io/gatehouse/internal/csvsafe"
	"github.com/gatehouse-io/gatehouse/internal/fault"
	"github.com/gatehouse-io/gatehouse/usage"
)

const usageRoute = "/api/usage"

type usageIn struct {
	From         string   `query:"from" doc:"From the hour on that this time is in (RFC 3339); 24 hours before to when left out"`
	To           string   `query:"to" doc:"Hours that begin before this time (RFC 3339); now when left out"`
	GroupBy      []string `query:"groupBy,explode" doc:"Of hour, organization, service, model, credential and member, separated by commas or given several times; one row over all when left out" example:"service,model"`
	Service      string   `query:"service" doc:"One service"`
	Model        string   `query:"model" doc:"One model"`
	Credential   string   `query:"credential" doc:"One credential's id"`
	Member       string   `query:"member" doc:"One member's id"`
	Organization string   `query:"organization" doc:"For operators: another organization, or * for all"`
	Limit        int      `query:"limit" doc:"1 to 10000; 100 when left out or 0, 10000 for CSV"`
	Cursor       string   `query:"cursor" doc:"nextCursor of the page before; for CSV the header Gatehouse-Next-Cursor"`
	Format       string   `query:"format" doc:"json or csv; Accept: text/csv asks for csv too"`
}

type usageOut struct {
	ContentType string `header:"Content-Type"`
	Disposition string `header:"Content-Disposition"`
	NextCursor  string `header:"Gatehouse-Next-Cursor"`
	Body        any    // api.UsageReport, or the bytes of a CSV file
}

func (s *Server) usage(ctx context.Context, caller access.Caller, in *usageIn) (*usageOut, error) {
	from, wrong := queryTime("from", in.From)
	to, wrongTo := queryTime("to", in.To)
	wrong = append(wrong, wrongTo...)
	asCSV := in.Format == "csv"
	switch in.Format {
	case "":
		asCSV = prefersCSV(exchangeOf(ctx).accept)
	case "json", "csv":
	default:
		wrong = append(wrong, fault.Field{Name: "format", Message: "must be json or csv"})
	}
	if o := in.Organization; o != "" && o != usage.AllOrganizations && o != access.InstanceOrganization && !access.ValidOrganization(o) {
		wrong = append(wrong, fault.Field{Name: "organization", Message: "must be an organization's id, or *"})
	}
	if len(wrong) > 0 {
		return nil, fault.InvalidFields(wrong...)
	}
	q := usage.Query{
		Organization: in.Organization, From: from, To: to, Service: in.Service, Model: in.Model, Credential: in.Credential, Member: in.Member,
		Limit: in.Limit, Cursor: in.Cursor,
	}
	for _, names := range in.GroupBy {
		for name := range strings.SplitSeq(names, ",") {
			q.GroupBy = append(q.GroupBy, usage.Dimension(strings.TrimSpace(name)))
		}
	}
	if q.Limit == 0 && asCSV {
		q.Limit = usage.MaxLimit
	}
	page, err := s.cfg.Usage.Query(ctx, caller, q)
	if err != nil {
		return nil, err
	}
	report := wireUsage(page)
	if asCSV {
		text, err := usageCSV(report)
		return &usageOut{ContentType: "text/csv; charset=utf-8", Disposition: `attachment; filename="usage.csv"`, NextCursor: report.NextCursor, Body: text}, err
	}
	return &usageOut{ContentType: "application/json", Body: report}, nil
}

// prefersCSV reports whether an Accept header wants text/csv, and JSON no more than that
// (RFC 9110, 12.4.2: a weight of 0 is not acceptable, and what is more specific counts).
func prefersCSV(accept string) bool {
	weights := make(map[string]float64)
	for part := range strings.SplitSeq(accept, ",") {
		media, parameters, err := mime.ParseMediaType(part)
		if err != nil {
			continue
		}
		weight := 1.0
		if q := parameters["q"]; q != "" {
			if weight, err = strconv.ParseFloat(q, 64); err != nil {
				continue
			}
		}
		weights[media] = weight
	}
	json := 0.0
	for _, media := range []string{"application/json", "application/*", "*/*"} {
		if weight, named := weights[media]; named {
			json = weight
			break
		}
	}
	return weights["text/csv"] > 0 && weights["text/csv"] >= json
}

func wireUsage(page usage.Page) api.UsageReport {
	report := api.UsageReport{From: api.At(page.From), To: api.At(page.To), GroupBy: make([]string, len(page.GroupBy)),
		Rows: make([]api.UsageRow, len(page.Rows)), NextCursor: page.NextCursor}
	for i, d := range page.GroupBy {
		report.GroupBy[i] = string(d)
	}
	for i := range page.Rows {
		row := &page.Rows[i]
		w := api.UsageRow{Requests: row.Requests, Failed: row.Failed, Partial: row.Partial, Counted: row.Counted, Uncounted: row.Uncounted,
			BytesIn: row.BytesIn, BytesOut: row.BytesOut}
		if row.Counted > 0 {
			w.InputTokens, w.CacheReadTokens, w.CacheWriteTokens = &row.InputTokens, &row.CacheReadTokens, &row.CacheWriteTokens
			w.OutputTokens, w.ReasoningTokens = &row.OutputTokens, &row.ReasoningTokens
		}
		for _, d := range page.GroupBy {
			switch d {
			case usage.Hour:
				w.Hour = api.At(row.Hour)
			case usage.Organization:
				w.Organization = &row.Organization
			case usage.Service:
				w.Service = &row.Service
			case usage.Model:
				w.Model = &row.Model
			case usage.Credential:
				w.Credential = &row.Credential
			case usage.Member:
				w.Member = &row.Member
			}
		}
		report.Rows[i] = w
	}
	return report
}

// usageCSV gives a report as a CSV file (RFC 4180) with a line of names. A
// number that is not known is an empty cell.
func usageCSV(report api.UsageReport) ([]byte, error) {
	var b bytes.Buffer
	w := csv.NewWriter(&b)
	w.UseCRLF = true
	header := append([]string{}, report.GroupBy...)
	header = append(header, "requests", "failed", "partial", "counted", "uncounted", "inputTokens", "cacheReadTokens", "cacheWriteTokens",
		"outputTokens", "reasoningTokens", "bytesIn", "bytesOut")
	if err := w.Write(header); err != nil {
		return nil, err
	}
	for _, row := range report.Rows {
		var cells []string
		if row.Hour != nil {
			cells = append(cells, row.Hour.String())
		}
		for _, name := range []*string{row.Organization, row.Service, row.Model, row.Credential, row.Member} {
			if name != nil {
				cells = append(cells, csvsafe.Cell(*name))
			}
		}
		for _, n := range []*int64{&row.Requests, &row.Failed, &row.Partial, &row.Counted, &row.Uncounted, row.InputTokens, row.CacheReadTokens,
			row.CacheWriteTokens, row.OutputTokens, row.ReasoningTokens, &row.BytesIn, &row.BytesOut} {
			if n == nil {
				cells = append(cells, "")
			} else {
				cells = append(cells, strconv.FormatInt(*n, 10))
			}
		}
		if err := w.Write(cells); err != nil {
			return nil, err
		}
	}
	w.Flush()
	return b.Bytes(), w.Error()
}

// describeUsage says in the API document what usage answers, which has two forms.
func (s *Server) describeUsage() {
	schemas := s.api.OpenAPI().Components.Schemas
	s.api.OpenAPI().Paths[usageRoute].Get.Responses["200"].Content = map[string]*huma.MediaType{
		"application/json": {Schema: schemas.Schema(reflect.TypeFor[api.UsageReport](), true, "UsageReport")},
		"text/csv":         {Schema: &huma.Schema{Type: "string"}},
	}
}

// recordUsage hands a visit to the meter and its tokens to the metrics.
func (s *Server) recordUsage(x *exchange, service string, result gateway.Result) {
	u := result.Usage
	s.cfg.Usage.Record(usage.Record{
		At: s.now(), Organization: x.caller.Organization, Service: service, Model: u.Model, Credential: result.CredentialID, Member: x.caller.ID,
		Failed: result.Status >= http.StatusBadRequest && result.Outcome != audit.Partial, Partial: result.Outcome == audit.Partial,
		Expected: u.Expected, Tokens: u.Tokens, BytesIn: result.BytesIn, BytesOut: result.BytesOut,
	})
	t := u.Tokens
	s.cfg.Metrics.Tokens(service, "input", t.Input.N)
	s.cfg.Metrics.Tokens(service, "cache_read", t.CacheRead.N)
	s.cfg.Metrics.Tokens(service, "cache_write", t.CacheWrite.N)
	s.cfg.Metrics.Tokens(service, "output", t.Output.N)
	s.cfg.Metrics.Tokens(service, "reasoning", t.Reasoning.N)
}

// noteUsage adds what a visit used to its event.
func noteUsage(e *audit.Event, u gateway.Usage) {
	if u.Model != "" {
		e.Metadata["model"] = u.Model
	}
	if u.Tokens.Input.Known {
		e.Metadata["inputTokens"] = u.Tokens.Input.N
	}
	if u.Tokens.Output.Known {
		e.Metadata["outputTokens"] = u.Tokens.Output.N
	}
}
