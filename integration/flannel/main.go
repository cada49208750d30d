// Command flannel stands in for the plugin of that name: it fills the `delegate` of its configuration from the file
// that flannel's daemon writes (subnet.env) and has another plugin do the work, by the delegation of the CNI library.
// What it delegates for ADD it keeps, for DEL, under /var/lib/cni/flannel, as the original does.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/version"
)

const (
	subnetFile = "/run/flannel/subnet.env"
	kept       = "/var/lib/cni/flannel"
)

type object = map[string]interface{}

func subnetEnv() (map[string]string, error) {
	content, err := os.ReadFile(subnetFile)
	if err != nil {
		return nil, err
	}
	env := map[string]string{}
	for _, line := range strings.Split(string(content), "\n") {
		if key, value, found := strings.Cut(line, "="); found {
			env[key] = value
		}
	}
	return env, nil
}

// delegated is the configuration of the plugin that does the work.
func delegated(stdin []byte) (object, error) {
	conf := struct {
		CNIVersion    string
		Name          string
		Delegate      object
		RuntimeConfig object
	}{}
	if err := json.Unmarshal(stdin, &conf); err != nil {
		return nil, err
	}
	env, err := subnetEnv()
	if err != nil {
		return nil, err
	}
	mtu, err := strconv.Atoi(env["FLANNEL_MTU"])
	if err != nil {
		return nil, fmt.Errorf("FLANNEL_MTU: %w", err)
	}
	// The file names the bridge's address with its prefix length; a range is a network.
	_, subnet, err := net.ParseCIDR(env["FLANNEL_SUBNET"])
	if err != nil {
		return nil, fmt.Errorf("FLANNEL_SUBNET: %w", err)
	}
	whole := object{
		"type": "bridge", "isGateway": true, "mtu": mtu, "ipMasq": env["FLANNEL_IPMASQ"] != "true",
		"ipam": object{
			"type":   "host-local",
			"ranges": [][]object{{{"subnet": subnet.String()}}},
			"routes": []object{{"dst": env["FLANNEL_NETWORK"]}},
		},
	}
	for key, value := range conf.Delegate {
		whole[key] = value
	}
	whole["name"], whole["cniVersion"] = conf.Name, conf.CNIVersion
	if conf.RuntimeConfig != nil {
		whole["runtimeConfig"] = conf.RuntimeConfig
	}
	return whole, nil
}

func add(args *skel.CmdArgs) error {
	conf, err := delegated(args.StdinData)
	if err != nil {
		return err
	}
	bytes, err := json.Marshal(conf)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(kept, 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(kept, args.ContainerID), bytes, 0o600); err != nil {
		return err
	}
	result, err := invoke.DelegateAdd(context.Background(), conf["type"].(string), bytes, nil)
	if err != nil {
		return fmt.Errorf("failed to delegate add: %w", err)
	}
	return result.Print()
}

func del(args *skel.CmdArgs) error {
	file := filepath.Join(kept, args.ContainerID)
	bytes, err := os.ReadFile(file)
	if os.IsNotExist(err) {
		return nil
	} else if err != nil {
		return err
	}
	conf := struct{ Type string }{}
	if err := json.Unmarshal(bytes, &conf); err != nil {
		return err
	}
	if err := invoke.DelegateDel(context.Background(), conf.Type, bytes, nil); err != nil {
		return err
	}
	return os.Remove(file)
}

// check is as empty as the original's.
func check(*skel.CmdArgs) error { return nil }

func main() {
	skel.PluginMain(add, check, del, version.All, "stand-in for flannel")
}
